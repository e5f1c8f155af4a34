"""Metrics of one image's mask against its label: overlap, probability, area, lesions one by one.

Empty masks, the one rule for all: both empty is the best answer a metric knows, one empty is the
worst. So a missed lesion counts, and nothing is ever NaN or left out. docs/metrics.md has the list.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]

FOUND_IOU = 0.3
"""A lesion is found, and a predicted region is right, from this IoU of the two regions on."""
TOLERANCE_PX, TOLERANCE_MM = 2.0, 1.0
"""Of the normalised surface Dice."""
HD95_VARIANT = "larger of the two directed 95th percentiles, pixel outlines"
SMALLEST_PROBABILITY = 1e-7

DEFINITIONS = {
    "Dice": "2 |A ∩ B| / (|A| + |B|) of the predicted and the true pixels of one image, all "
    "objects together; the table gives the mean over images.",
    "IoU": "|A ∩ B| / |A ∪ B|, per image as Dice. For one image IoU = Dice / (2 - Dice); for means "
    "of the same images IoU ≤ Dice ≤ 2 IoU / (1 + IoU) (Jensen), which every table is checked for.",
    "Sensitivity": "|A ∩ B| / |truth|, per image.",
    "Precision": "|A ∩ B| / |prediction|, per image.",
    "HD95": f"The {HD95_VARIANT}: from each outline pixel (a pixel of the mask with a side "
    "neighbour outside it) the distance to the nearest outline pixel of the other mask. In pixels "
    "of the image, and in mm where the spacing is known. Smaller is better.",
    "HD": "As HD95 with the maximum instead of the 95th percentile.",
    "ASSD": "The mean of the same distances, both directions pooled. Smaller is better.",
    "NSD": "Share of both outlines' pixels that lie within a tolerance of the other outline: "
    f"{TOLERANCE_PX:g} px, or {TOLERANCE_MM:g} mm.",
    "Area error": "2 (|prediction| - |truth|) / (|prediction| + |truth|), with its sign: below 0 is "
    "too small. A missed lesion is -2, a false alarm on an empty label +2.",
    "BCE": "Binary cross-entropy in nats, mean over the image's pixels, of the probability that a "
    "pixel belongs to any object, cut to [1e-7, 1 - 1e-7]. Only of methods that give probabilities.",
    "Empty masks": "Both empty: Dice, IoU, sensitivity, precision, NSD 1, distances and area error "
    "0. One empty: Dice, IoU, sensitivity, precision, NSD 0, distances = the image's diagonal, "
    "area error ±2. Nothing drops out. Images without anything to point at do not count for box "
    "and point prompts; automatic mode counts them.",
    "Interval": "95% bootstrap interval of the mean: whole groups (patients, near-duplicates) are "
    "drawn with replacement, 2,000 times.",
    "Lesion found": "A connected region of the label is found if a predicted region overlaps it "
    f"with IoU of at least {FOUND_IOU}; a predicted region that finds none is a false alarm. "
    "Regions below 16 px don't count, as long as the mask has a larger one.",
    "NoC@90": "Number of clicks: the first lies inside the lesion, each further one where the mask "
    "is most wrong, until the image's Dice reaches 0.90. At most 20; an image that never gets there "
    "counts as 20 and is named as not reached. Several lesions: clicks per lesion.",
}


def dice(label: BoolArray, predicted: BoolArray) -> float:
    """Dice of two masks of one shape, 0..1; see the module for empty ones."""
    total = np.count_nonzero(label) + np.count_nonzero(predicted)
    return float(2 * np.count_nonzero(label & predicted) / total) if total else 1.0


def iou(label: BoolArray, predicted: BoolArray) -> float:
    """Intersection over union of two masks of one shape, 0..1; see the module for empty ones."""
    return _share(np.count_nonzero(label & predicted), np.count_nonzero(label | predicted))


def sensitivity(label: BoolArray, predicted: BoolArray) -> float:
    """Share of the label's pixels that were found, 0..1; an empty label with a prediction gives 0."""
    if not label.any():
        return float(not predicted.any())
    return _share(np.count_nonzero(label & predicted), np.count_nonzero(label))


def precision(label: BoolArray, predicted: BoolArray) -> float:
    """Share of the predicted pixels that are right, 0..1; an empty prediction of something gives 0."""
    return sensitivity(predicted, label)


def area_error(label: BoolArray, predicted: BoolArray) -> float:
    """Relative difference of area (or volume), -2..2, positive if the prediction is larger.

    2 (P - L) / (P + L): symmetric, and finite where the label is empty (SimpleITK's volume
    similarity with the same order of arguments). Both empty: 0.
    """
    true, found = np.count_nonzero(label), np.count_nonzero(predicted)
    return float(2 * (found - true) / (found + true)) if found + true else 0.0


def cross_entropy(label: BoolArray, probability: NDArray[np.floating]) -> float:
    """Binary cross-entropy in nats, mean over pixels.

    Args:
        label: (H, W).
        probability: (H, W) of foreground; cut to [1e-7, 1 - 1e-7], so a certain error costs 16.1.
    """
    right = np.where(label, probability, 1 - probability.astype(np.float64))
    return float(-np.log(right.clip(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)).mean())


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


def _share(part: np.integer | int, whole: np.integer | int) -> float:
    return float(part / whole) if whole else 1.0
