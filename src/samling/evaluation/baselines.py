"""Baselines without learning, asked the same way as a model: what a box or a click alone is worth."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from samling.evaluation.classical import active_contour, grabcut, otsu, region_growing
from samling.inference.card import Card, PromptKind
from samling.inference.regions import box_around
from samling.inference.segmenter import Object
from samling.prompts.prompt import Prompt

BoolArray = NDArray[np.bool_]
Image = NDArray[np.float32]
Draw = Callable[[Image, Prompt], BoolArray]


class Baseline:
    """A rule that draws one mask per prompt; meets `protocols.Asked`.

    Args:
        name: in tables.
        draw: from an image (H, W) and a prompt to a mask (H, W).
        prompts: the kinds it takes.
    """

    def __init__(self, name: str, draw: Draw, prompts: tuple[PromptKind, ...] = ("box",)) -> None:
        self._draw = draw
        self.card = Card(
            name=name,
            base="no model",
            base_sha256="no weights",
            embedding_size=1,
            prompts=prompts,
            licence="Apache-2.0",
        )

    def encode(self, image: Image) -> Image:
        """Nothing to compute ahead."""
        return image

    def segment_encoded(self, encoded: Image, prompts: Sequence[Prompt]) -> list[Object]:
        """One object per prompt; quality is NaN: nobody predicts it.

        Raises:
            ValueError: a prompt of another kind.
        """
        objects = []
        for prompt in prompts:
            if prompt.box is None and "points" not in self.card.prompts:
                raise ValueError(f"{self.card.name} needs a box in every prompt")
            mask = self._draw(encoded, prompt)
            objects.append(Object(mask, 1.0, math.nan, None, box_around(mask), "object"))
        return objects

    def decode_square(
        self, encoded: Image, prompts: Sequence[Prompt]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """There are no logits: asked only of models that take masks."""
        raise NotImplementedError(f"{self.card.name} has no logits")

    def foreground(self, encoded: Image, prompts: Sequence[Prompt]) -> None:
        """No probabilities."""


def fill_box(image: Image, prompt: Prompt) -> BoolArray:
    """The pixels whose centre lies inside the box.

    Args:
        image: (H, W), only its size is looked at.
        prompt: with a box x0, y0, x1, y1 in continuous pixels.
    """
    x, y = _centres(image.shape)
    x0, y0, x1, y1 = _box(prompt)
    return np.asarray((x >= x0) & (x < x1) & (y >= y0) & (y < y1))


def ellipse_in_box(image: Image, prompt: Prompt) -> BoolArray:
    """The largest upright ellipse inside the box; arguments as `fill_box`."""
    x, y = _centres(image.shape)
    x0, y0, x1, y1 = _box(prompt)
    across = (2 * x - x0 - x1) / (x1 - x0)
    down = (2 * y - y0 - y1) / (y1 - y0)
    return np.asarray(across**2 + down**2 <= 1)


GEOMETRIC = ("fill the box", "ellipse in the box")
"""Those that every evaluation shows."""

_DRAWN: dict[str, tuple[Draw, tuple[PromptKind, ...]]] = {
    "fill the box": (fill_box, ("box",)),
    "ellipse in the box": (ellipse_in_box, ("box",)),
    "Otsu in the box": (otsu, ("box",)),
    "GrabCut in the box": (grabcut, ("box",)),
    "region growing": (region_growing, ("box", "points")),
    "active contour": (active_contour, ("box",)),
}
BASELINES = tuple(_DRAWN)


def baseline(name: str) -> Baseline:
    """A baseline by its name in `BASELINES`."""
    draw, prompts = _DRAWN[name]
    return Baseline(name, draw, prompts)


def _centres(size: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    across, down = np.arange(size[1], dtype=np.float64), np.arange(size[0], dtype=np.float64)
    return across[None] + 0.5, down[:, None] + 0.5


def _box(prompt: Prompt) -> NDArray[np.float64]:
    if prompt.box is None:
        raise ValueError("this baseline needs a box")
    return prompt.box
