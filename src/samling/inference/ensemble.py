"""Ensemble: several models and their view of the mirrored slice as one, for automatic mode on volumes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from samling.errors import InputError
from samling.inference.card import Card
from samling.inference.segmenter import Segmenter
from samling.prompts.prompt import Prompt


@dataclass(frozen=True)
class Ensemble:
    """Models whose probabilities are averaged.

    Args:
        members: they answer for the same classes.
        flips: every member also sees the slice mirrored, left to right.

    Raises:
        InputError: the members' classes differ.
    """

    members: tuple[Segmenter, ...]
    flips: bool = False

    def __post_init__(self) -> None:
        first = self.card
        for other in (member.card for member in self.members[1:]):
            if (other.classes, other.automatic) != (first.classes, first.automatic):
                problem = f"answers for {', '.join(other.classes)}, {first.name} for "
                problem += ", ".join(first.classes)
                raise InputError(other.name, problem, "join models of the same classes")

    @property
    def card(self) -> Card:
        """That of the first member."""
        return self.members[0].card

    @property
    def votes(self) -> int:
        """How many answers are averaged."""
        return len(self.members) * (1 + self.flips)

    def probabilities(
        self, voxels: NDArray[np.generic], index: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(K, H, W) mean probability of every class on one slice of (D, H, W), and its uncertainty.

        A model's threshold is its probability 0.5; a class that is not there has 0.

        Returns:
            The means, and (H, W) entropy of the mean in bits, 0..1, the largest over classes.
        """
        total = np.zeros((self.card.answers, *voxels.shape[1:]), np.float32)
        for member in self.members:
            slab = slab_at(member, voxels, index)
            total += class_probabilities(member, slab)
            if self.flips:
                mirrored = np.ascontiguousarray(slab[..., ::-1])
                total += class_probabilities(member, mirrored)[..., ::-1]
        total /= self.votes
        return total, _entropy(total).max(axis=0)


def slab_at(segmenter: Segmenter, voxels: NDArray[np.generic], index: int) -> NDArray[np.generic]:
    """What a model sees of a slice of (D, H, W): (H, W), or (3, H, W) with its neighbours."""
    if segmenter.card.slices == 1:
        return voxels[index]
    last = len(voxels) - 1
    return voxels[[max(index - 1, 0), index, min(index + 1, last)]]


def class_probabilities(segmenter: Segmenter, slab: NDArray[np.generic]) -> NDArray[np.float32]:
    """(K, H, W) probability of every class that automatic mode tells apart."""
    encoded = segmenter.encode(slab)
    found = np.zeros(
        (segmenter.card.answers, encoded.frame.height, encoded.frame.width), np.float32
    )
    prompts = segmenter.answered(encoded, [Prompt()])
    low, _ = segmenter.decode_square(encoded, prompts)
    if segmenter.card.automatic == "nested":
        low = np.minimum.accumulate(low, axis=0)
    logits = encoded.frame.logits_to_original(low) - np.float32(segmenter.card.mask_threshold)
    for prompt, plane in zip(prompts, logits, strict=True):
        found[prompt.class_index or 0] = 1 / (1 + np.exp(-plane.clip(-60, 60)))
    return found


class SliceAnswer(NamedTuple):
    """One slice of a volume, segmented."""

    place: int
    """Which slice, from 0."""
    labels: NDArray[np.uint8]
    """(H, W) class numbers; where classes overlap the higher one."""
    uncertainty: NDArray[np.uint8]
    """(H, W) 0..100."""


def segment_slices(
    ensemble: Ensemble, voxels: NDArray[np.generic], indices: Iterable[int]
) -> Iterator[SliceAnswer]:
    """Automatic mode on some slices of (D, H, W).

    Raises:
        InputError: a model has no automatic mode.
    """
    for member in ensemble.members:
        member.require(Prompt())
    smallest = ensemble.card.minimum_area * voxels[0].size
    for index in indices:
        means, doubt = ensemble.probabilities(voxels, index)
        labels = np.zeros(voxels.shape[1:], np.uint8)
        for number, mean in enumerate(means, start=1):
            labels[_without_specks(mean > 0.5, smallest)] = number
        yield SliceAnswer(index, labels, np.rint(100 * doubt).astype(np.uint8))


def _entropy(p: NDArray[np.float32]) -> NDArray[np.float32]:
    p = p.clip(1e-6, 1 - 1e-6)
    return -(p * np.log2(p) + (1 - p) * np.log2(1 - p))


def _without_specks(mask: NDArray[np.bool_], smallest: float) -> NDArray[np.bool_]:
    """The mask without its 8-connected regions of fewer pixels than `smallest`."""
    if not mask.any():
        return mask
    _, regions, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= smallest
    large[0] = False
    return large[regions]
