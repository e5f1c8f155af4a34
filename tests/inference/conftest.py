"""A segmenter whose answers can be computed by hand: no weights, no PyTorch."""

from collections.abc import Callable

import numpy as np
import pytest

from samling.inference.backend import Encoding
from samling.inference.card import Card
from samling.inference.segmenter import Segmenter
from samling.prompts.prompt import AUTOMATIC_TOKENS, Token

SIDE = 64


class PaintingBackend:
    """Box: fills it. Points: discs of radius 6. Automatic: everything brighter than a half.

    The embedding is the image itself, 4 x 4 pixels in the channels of each of the 16 x 16 cells.
    """

    def __init__(self) -> None:
        self.encoded = 0
        self.decoded: list[tuple[int, int]] = []

    def encode(self, plane):
        self.encoded += 1
        cells = plane.reshape(16, 4, 16, 4).transpose(1, 3, 0, 2).reshape(1, 16, 16, 16)
        return Encoding(cells, 3.0 if plane.max() > 0.5 else -3.0)

    def decode(self, encoding, coords, labels, masks=None):
        self.decoded.append(labels.shape)
        image = encoding.embedding.reshape(4, 4, 16, 16).transpose(2, 0, 3, 1).reshape(SIDE, SIDE)
        low = [self._paint(image, c, t) for c, t in zip(coords, labels, strict=True)]
        if masks is not None:
            low = [a + b for a, b in zip(low, masks, strict=True)]
        quality = 0.5 + 0.01 * labels.shape[1] * np.ones(len(coords))
        return np.stack(low).astype(np.float32), quality.astype(np.float32)

    def _paint(self, image, coords, kinds):
        if kinds[0] >= Token.AUTOMATIC:
            assert len(kinds) == AUTOMATIC_TOKENS
            return (image - 0.5) * 20
        y, x = np.mgrid[:SIDE, :SIDE]
        low = np.full((SIDE, SIDE), -8.0)
        if Token.TOP_LEFT in kinds:
            x0, y0 = coords[kinds == Token.TOP_LEFT][0]
            x1, y1 = coords[kinds == Token.BOTTOM_RIGHT][0]
            low[(x >= x0 - 0.5) & (x <= x1 + 0.5) & (y >= y0 - 0.5) & (y <= y1 + 0.5)] = 8.0
        for kind, value in ((Token.POSITIVE, 8.0), (Token.NEGATIVE, -8.0)):
            for px, py in coords[kinds == kind]:
                low[(x - px) ** 2 + (y - py) ** 2 <= 36] = value
        return low


@pytest.fixture
def painting_backend() -> PaintingBackend:
    return PaintingBackend()


@pytest.fixture
def make_card() -> Callable[..., Card]:
    def make(**changes) -> Card:
        fields = {
            "name": "painter",
            "base": "none",
            "base_sha256": "0" * 64,
            "input_size": SIDE,
            "embedding_size": SIDE // 4,
            "prompts": ("box", "points", "mask", "automatic"),
        }
        return Card.model_validate(fields | changes)

    return make


@pytest.fixture
def painter(make_card) -> Segmenter:
    return Segmenter(PaintingBackend(), make_card())


class Bright:
    """Finds what is brighter than a half, inside the box where there is one (side 64)."""

    def __init__(self, painter):
        self.encode = painter.backend.encode

    def decode(self, encoding, coords, labels, masks=None):
        image = encoding.embedding.reshape(4, 4, 16, 16).transpose(2, 0, 3, 1).reshape(64, 64)
        y, x = np.mgrid[:64, :64]
        low = []
        for c, k in zip(coords, labels, strict=True):
            inside = np.ones((64, 64), bool)
            if Token.TOP_LEFT in k:
                (x0, y0), (x1, y1) = c[k == Token.TOP_LEFT][0], c[k == Token.BOTTOM_RIGHT][0]
                inside = (x >= x0 - 0.5) & (x <= x1 + 0.5) & (y >= y0 - 0.5) & (y <= y1 + 0.5)
            low.append(np.where(inside & (image > 0.5), 8.0, -8.0))
        return np.stack(low).astype(np.float32), np.full(len(low), 0.9, np.float32)


@pytest.fixture
def bright_backend(painter) -> Bright:
    return Bright(painter)
