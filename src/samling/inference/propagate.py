"""Volumes slice by slice: prompts carried from one slice to the next."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samling.inference.ensemble import slab_at
from samling.inference.regions import box_around
from samling.inference.segmenter import EncodedImage, Segmenter, Settle
from samling.prompts.prompt import Prompt

Mask = NDArray[np.bool_]
GROWTH = 0.05
"""A box is widened by this share of its sides before it is used on the next slice, at least 1 px."""


@dataclass(frozen=True)
class StopRule:
    """When an object is taken to have ended. A box-prompted model draws something into any box.

    Args:
        quality: least predicted IoU.
        overlap: least Dice with the same object on the slice before.
        typical: least share of pixels whose value lies in the central 95 % of the first slice's.
    """

    quality: float = 0.5
    overlap: float = 0.5
    typical: float = 0.6


def propagate(
    segmenter: Segmenter,
    voxels: NDArray[np.generic],
    start: int,
    prompts: Sequence[Prompt],
    stop: StopRule = StopRule(),
) -> Iterator[tuple[int, list[Mask | None]]]:
    """Segment `prompts` on slice `start`, then carry each object up and down until it ends.

    The next slice's prompt is the box around the object found, a little wider, and, for models that
    take masks, its logits. Every slice is encoded once for all objects.

    Args:
        voxels: (D, H, W).

    Yields:
        Slice index, and per prompt its mask (H, W) or None where the object has ended.

    Raises:
        InputError: a prompt does not fit the slice or the model.
    """
    segmenter.check(prompts, (voxels.shape[1], voxels.shape[2]))
    first = segmenter.encode(slab_at(segmenter, voxels, start))
    found = [answer(segmenter, first, prompt) for prompt in prompts]
    usual = [_range(voxels[start], one.mask) for one in found]
    yield start, [one.mask for one in found]
    for direction in (1, -1):
        # an automatic or empty start cannot be carried on
        alive: list[Answer | None] = [one if one.mask.any() else None for one in found]
        index = start + direction
        while 0 <= index < len(voxels) and any(one is not None for one in alive):
            encoded = segmenter.encode(slab_at(segmenter, voxels, index))
            alive = [
                None if one is None else _carry(segmenter, encoded, one, values, stop)
                for one, values in zip(alive, usual, strict=True)
            ]
            if any(one is not None for one in alive):
                yield index, [None if one is None else one.mask for one in alive]
            index += direction


@dataclass(frozen=True)
class Answer:
    """One object on one slice or frame: mask (H, W), its logits on the model's square, predicted IoU."""

    mask: Mask
    low: NDArray[np.float32]
    quality: float


def answer(
    segmenter: Segmenter, encoded: EncodedImage, prompt: Prompt, settle: Settle | None = None
) -> Answer:
    """What the model says to one prompt, with what is needed to carry the object on.

    `settle` changes the (4h, 4w) logits before the mask is cut, those of a closer look excepted.
    """
    low, quality = segmenter.decode_square(encoded, [prompt])
    if segmenter.zooms(prompt):
        logits, closer = segmenter.decode_zoomed(encoded, prompt)
        return Answer(segmenter.cut(logits, prompt), low[0], closer)
    shown = low if settle is None else settle(low[0], 0)[None]
    logits = encoded.frame.logits_to_original(shown)[0]
    return Answer(segmenter.cut(logits, prompt), low[0], float(quality[0]))


def _carry(
    segmenter: Segmenter,
    encoded: EncodedImage,
    before: Answer,
    usual: tuple[float, float],
    stop: StopRule,
) -> Answer | None:
    """The same object on the next slice, or None if it has ended."""
    now = answer(segmenter, encoded, next_prompt(segmenter, before))
    size = np.count_nonzero(now.mask)
    if not size or now.quality < stop.quality:
        return None
    inside = encoded.plane[now.mask].astype(np.float64)
    typical = np.count_nonzero((inside >= usual[0]) & (inside <= usual[1])) / size
    same = overlap(now.mask, before.mask) >= stop.overlap
    return now if same and typical >= stop.typical else None


def overlap(one: Mask, other: Mask) -> float:
    """Dice of two masks; 1 if both are empty."""
    total = np.count_nonzero(one) + np.count_nonzero(other)
    return 2 * np.count_nonzero(one & other) / total if total else 1.0


def next_prompt(segmenter: Segmenter, before: Answer) -> Prompt:
    """The box around an object (not empty), a little wider, and its logits if the model takes masks."""
    takes_masks = "mask" in segmenter.card.prompts and segmenter.card.zoom is None
    return Prompt(box=wider_box(before.mask, GROWTH), mask=before.low if takes_masks else None)


def wider_box(mask: Mask, growth: float) -> NDArray[np.float64]:
    """The box around a mask (H, W), not empty; each side moved out by a share of the box, at least 1 px."""
    box = box_around(mask)
    assert box is not None, "an empty mask is never carried on"
    corners = np.array(box, dtype=np.float64)
    grow = np.maximum(1.0, growth * (corners[2:] - corners[:2]))
    height, width = mask.shape
    return np.concatenate(
        [np.maximum(corners[:2] - grow, 0), np.minimum(corners[2:] + grow, (width, height))]
    )


def _range(plane: NDArray[np.generic], mask: Mask) -> tuple[float, float]:
    """What 95 % of an object's pixels lie between; widened, because slices differ."""
    if not mask.any():
        return -np.inf, np.inf
    low, high = np.percentile(plane[mask].astype(np.float64), (2.5, 97.5))
    slack = 0.25 * (high - low)
    return float(low - slack), float(high + slack)
