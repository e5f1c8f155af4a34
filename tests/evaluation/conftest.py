"""Stand-ins for a store and a segmenter, so that evaluation is tested without a network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from samling.data.case import Case
from samling.inference.card import Card
from samling.inference.regions import box_around
from samling.inference.segmenter import Object
from samling.prompts.prompt import Prompt

Shape = Callable[[np.ndarray, Prompt], list[np.ndarray]]


def card(name: str = "fake", **changes: object) -> Card:
    base = {
        "name": name,
        "base": "fake-base",
        "base_sha256": "0" * 64,
        "embedding_size": 16,
        "prompts": ("box", "points", "automatic"),
    }
    return Card.model_validate(base | changes)


def dark(image: np.ndarray, prompt: Prompt) -> list[np.ndarray]:
    """The dark pixels inside the box, or of the regions under the points, or every dark region."""
    low = image < 50
    numbers, count = ndimage.label(low)
    if prompt.automatic:
        return [numbers == k + 1 for k in range(count)]
    mask = np.zeros(image.shape, dtype=bool)
    if prompt.box is not None:
        x0, y0, x1, y1 = np.clip(np.rint(prompt.box).astype(int), 0, None)
        mask[y0:y1, x0:x1] = low[y0:y1, x0:x1]
    for x, y in prompt.points[prompt.point_labels == 1].astype(int):
        mask |= (numbers == numbers[y, x]) & low
    return [mask]


@dataclass
class FakeSegmenter:
    """Answers with `shape(image, prompt)`; counts how often it was asked to encode."""

    shape: Shape = dark
    card: Card = field(default_factory=card)
    encoded: int = 0
    asked: list[list[Prompt]] = field(default_factory=list)

    def encode(self, image: np.ndarray) -> np.ndarray:
        self.encoded += 1
        return image

    def segment_encoded(self, encoded: np.ndarray, prompts: Sequence[Prompt]) -> list[Object]:
        self.asked.append(list(prompts))
        masks = [mask for prompt in prompts for mask in self.shape(encoded, prompt)]
        return [Object(mask, 0.9, 0.8, None, box_around(mask), "object") for mask in masks]

    def decode_square(
        self, encoded: np.ndarray, prompts: Sequence[Prompt]
    ) -> tuple[np.ndarray, np.ndarray]:
        side = 4 * self.card.embedding_size
        return np.zeros((len(prompts), side, side), np.float32), np.zeros(len(prompts), np.float32)

    def foreground(self, encoded: np.ndarray, prompts: Sequence[Prompt]) -> np.ndarray:
        masks = [mask for prompt in prompts for mask in self.shape(encoded, prompt)]
        return 0.1 + 0.8 * np.any([np.zeros(encoded.shape, bool), *masks], axis=0)


@dataclass
class FakeStore:
    """Cases in memory."""

    cases: dict[str, Case]

    def case(self, id: str) -> Case:
        return self.cases[id]


def disc_case(name: str, discs: list[tuple[int, int, int]], **more: object) -> Case:
    """A 60 x 80 picture with dark discs (row, column, radius) and their exact label."""
    rows, columns = np.indices((60, 80))
    label = np.zeros((60, 80), dtype=np.uint8)
    for row, column, radius in discs:
        label[np.hypot(rows - row, columns - column) <= radius] = 1
    image = np.where(label > 0, 10, 200).astype(np.float32)
    return Case(id=name, image=image, labels=label, **more)


@pytest.fixture
def fakes() -> SimpleNamespace:
    """The stand-ins, for tests to build their own from."""
    return SimpleNamespace(
        Segmenter=FakeSegmenter, Store=FakeStore, card=card, dark=dark, disc_case=disc_case
    )


SHAPE = (40, 48)
SPACINGS = [None, (0.5, 0.5), (0.3, 1.7), (2.1, 0.9)]


def blob(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return ndimage.gaussian_filter(rng.standard_normal(SHAPE), 4) > 0.02


@pytest.fixture(scope="session")
def mask_pairs() -> list[tuple[np.ndarray, np.ndarray, tuple[float, float] | None]]:
    """200 pairs: blobs, noise, one pixel, full, an empty one; isotropic and not."""
    special = [
        lambda rng: np.zeros(SHAPE, dtype=bool),
        lambda rng: np.ones(SHAPE, dtype=bool),
        lambda rng: np.arange(np.prod(SHAPE)).reshape(SHAPE) == rng.integers(np.prod(SHAPE)),
        lambda rng: rng.random(SHAPE) < 0.02,
        lambda rng: blob(int(rng.integers(1000))),
        lambda rng: blob(int(rng.integers(1000))) & (rng.random(SHAPE) < 0.9),
    ]
    found = []
    for number in range(200):
        rng = np.random.default_rng(number)
        one, two = special[number % 6](rng), special[(number // 6) % 6](rng)
        found.append((one, two, SPACINGS[number % 4]))
    return found
