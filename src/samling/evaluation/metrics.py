"""Metrics of one image's mask against its label, and the interval of their mean.

Empty masks, the one rule for all: both empty is a perfect answer (Dice 1, IoU 1, distance 0); one
empty is the worst (Dice 0, IoU 0, distance = the image's diagonal). Nothing is ever NaN, nothing
drops out.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

BoolArray = NDArray[np.bool_]

FOUND_IOU = 0.3
"""A lesion is found, and a predicted region is right, from this IoU of the two regions on."""

DEFINITIONS = {
    "Dice": "2 |A ∩ B| / (|A| + |B|) of the predicted and the true pixels of one image, all "
    "objects together; the table gives the mean over images.",
    "IoU": "|A ∩ B| / |A ∪ B|, per image as Dice. For one image IoU = Dice / (2 - Dice).",
    "HD95": "The larger of the two directed 95th percentiles: from each outline pixel (a pixel of "
    "the mask with a side neighbour outside it) the distance to the nearest outline pixel of the "
    "other mask; in pixels of the image, and in mm where the spacing is known. Smaller is better.",
    "HD": "As HD95 with the maximum instead of the 95th percentile.",
    "Empty masks": "Both empty: Dice 1, IoU 1, HD95 0. One empty: Dice 0, IoU 0, HD95 = the "
    "image's diagonal. Images without anything to point at do not count for box and point "
    "prompts; automatic mode counts them.",
    "Interval": "95% bootstrap interval of the mean: whole groups (patients, near-duplicates) are "
    "drawn with replacement, 2,000 times.",
    "Lesion found": "A connected region of the label is found if a predicted region overlaps it "
    f"with IoU of at least {FOUND_IOU}; a predicted region that finds none is a false alarm. "
    "Regions below 16 px don't count, as long as the mask has a larger one.",
}


def dice(label: BoolArray, predicted: BoolArray) -> float:
    """Dice of two masks of one shape, 0..1; see the module for empty ones."""
    total = np.count_nonzero(label) + np.count_nonzero(predicted)
    return float(2 * np.count_nonzero(label & predicted) / total) if total else 1.0


def iou(label: BoolArray, predicted: BoolArray) -> float:
    """Intersection over union of two masks of one shape, 0..1; see the module for empty ones."""
    union = np.count_nonzero(label | predicted)
    return float(np.count_nonzero(label & predicted) / union) if union else 1.0


class Hausdorff(NamedTuple):
    """Distances between two outlines, in pixels, or in the unit of the spacing."""

    maximum: float
    percentile95: float


def hausdorff(
    label: BoolArray, predicted: BoolArray, spacing: tuple[float, ...] | None = None
) -> Hausdorff:
    """Hausdorff distance and its 95th-percentile form; see `DEFINITIONS`.

    Args:
        label: (H, W).
        predicted: (H, W).
        spacing: distance of neighbouring rows and columns; None: pixels.
    """
    step = (1.0, 1.0) if spacing is None else (spacing[0], spacing[1])
    if not label.any() and not predicted.any():
        return Hausdorff(0.0, 0.0)
    if not label.any() or not predicted.any():
        diagonal = float(np.hypot(label.shape[0] * step[0], label.shape[1] * step[1]))
        return Hausdorff(diagonal, diagonal)
    crop = _around(label | predicted)
    outlines = outline(label[crop]), outline(predicted[crop])
    maps = [_distance_to(edge, step) for edge in outlines]
    there, back = maps[1][outlines[0]], maps[0][outlines[1]]
    return Hausdorff(
        float(max(there.max(), back.max())),
        float(max(np.percentile(there, 95), np.percentile(back, 95))),
    )


def outline(mask: BoolArray) -> BoolArray:
    """Pixels of the mask with a side neighbour outside it; beyond the picture is outside."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _around(mask: BoolArray) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _distance_to(edge: BoolArray, step: tuple[float, float]) -> NDArray[np.floating]:
    if step[0] != step[1]:
        return np.asarray(ndimage.distance_transform_edt(~edge, sampling=step))
    outside = (~edge).astype(np.uint8)
    # exact as well, and several times faster
    return cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) * np.float64(step[0])


class Findings(NamedTuple):
    """Lesions counted one by one."""

    lesions: int
    found: int
    false_alarms: int


def findings(labels: list[BoolArray], predicted: list[BoolArray]) -> Findings:
    """Count found lesions and false alarms among connected regions; see `DEFINITIONS`."""
    overlap = np.array([[iou(a, b) for b in predicted] for a in labels])
    overlap = overlap.reshape(len(labels), len(predicted)) >= FOUND_IOU
    found, right = overlap.any(axis=1), overlap.any(axis=0)
    return Findings(len(labels), int(found.sum()), int((~right).sum()))


@dataclass(frozen=True)
class Interval:
    """A mean with its interval."""

    mean: float
    low: float
    high: float


def mean_ci(
    values: ArrayLike, groups: list[str], seed: int = 0, *, draws: int = 2000, level: float = 0.95
) -> Interval:
    """Mean over images, and its percentile bootstrap interval over groups.

    Args:
        values: (N,) one value per image, N at least 1.
        groups: N names; images of one group are drawn together. One group alone: no width.
        seed: of the bootstrap.
        draws: number of resampled sets.
        level: share of the draws inside the interval.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) == 0 or len(numbers) != len(groups):
        raise ValueError(f"mean_ci needs one group per value, got {len(numbers)}, {len(groups)}")
    names, index = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(index, numbers), np.bincount(index)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    means = (times @ sums) / (times @ counts)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    mean = float(numbers.mean())
    # rounding must not push an interval past its own mean
    return Interval(mean, min(float(low), mean), max(float(high), mean))
