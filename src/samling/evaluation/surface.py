"""Surface distances: how far two outlines are apart, in pixels or in mm; HD, HD95, ASSD and NSD.

Variants differ by millimetres between programs, so ours are fixed here and named in every table:
the outline is made of pixels, HD95 is the larger of the two directed percentiles, ASSD pools both
directions, NSD counts outline pixels. All four agree with MONAI wherever MONAI gives a number.
"""

from dataclasses import dataclass
from functools import reduce

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BoolArray = NDArray[np.bool_]
_ROUNDING = 1e-6
"""Relative; a distance of exactly the tolerance is within it, also after 0.1 was added ten times."""


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances of every outline pixel to the nearest one of the other mask.

    One mask empty and the other not: every distance is the image's diagonal, more than two masks in
    the image can be apart, and nothing is within any tolerance. Both empty: no distances at all.

    Args:
        there: (N,) from the label's outline. back: (M,) from the predicted one.
        unmatched: one mask is empty, the other is not.
    """

    there: NDArray[np.floating]
    back: NDArray[np.floating]
    unmatched: bool = False

    @property
    def maximum(self) -> float:
        """Hausdorff distance (HD)."""
        return float(max(self.there.max(initial=0), self.back.max(initial=0)))

    @property
    def percentile95(self) -> float:
        """HD95: the larger of the two directed 95th percentiles (linear interpolation)."""
        directed = [np.percentile(part, 95) for part in (self.there, self.back) if part.size]
        return float(max(directed, default=0.0))

    @property
    def mean(self) -> float:
        """Average symmetric surface distance (ASSD): the mean of both directions, pooled."""
        both = np.concatenate([self.there, self.back])
        return float(both.mean()) if both.size else 0.0

    def within(self, tolerance: float) -> float:
        """Normalised surface Dice (NSD; Nikolov et al. 2018), 0..1.

        The share of both outlines' pixels that lie at most `tolerance` from the other outline, in
        the unit of the distances.
        """
        if self.unmatched:
            return 0.0
        both = np.concatenate([self.there, self.back])
        return float(np.mean(both <= tolerance * (1 + _ROUNDING))) if both.size else 1.0


def surface_distances(
    label: BoolArray, predicted: BoolArray, spacing: tuple[float, ...] | None = None
) -> SurfaceDistances:
    """Distances between the outlines of two masks.

    Args:
        label: (H, W) or (D, H, W).
        predicted: the same shape.
        spacing: distance of neighbouring samples along each axis; None: pixels.

    Raises:
        ValueError: the shapes differ, or the spacing has another number of axes.
    """
    step = (1.0,) * label.ndim if spacing is None else spacing
    if label.shape != predicted.shape or len(step) != label.ndim:
        raise ValueError(f"masks {label.shape}, {predicted.shape} with spacing {step}")
    nothing = np.zeros(0)
    if not label.any() and not predicted.any():
        return SurfaceDistances(nothing, nothing)
    if not label.any() or not predicted.any():
        diagonal = np.array([np.linalg.norm(np.multiply(label.shape, step))])
        return SurfaceDistances(diagonal, diagonal, unmatched=True)
    crop = _around(label | predicted)
    outlines = outline(label[crop]), outline(predicted[crop])
    maps = [_distance_to(edge, step) for edge in outlines]
    return SurfaceDistances(maps[1][outlines[0]], maps[0][outlines[1]])


def outline(mask: BoolArray) -> BoolArray:
    """Pixels of the mask with a side neighbour outside it; beyond the picture is outside."""
    padded = np.pad(mask, 1)
    whole, inner = slice(1, -1), []
    for axis in range(mask.ndim):
        for side in (slice(None, -2), slice(2, None)):
            inner.append(padded[tuple(side if a == axis else whole for a in range(mask.ndim))])
    return mask & ~reduce(np.logical_and, inner)


def _around(mask: BoolArray) -> tuple[slice, ...]:
    found = ndimage.find_objects(mask.astype(np.uint8))
    return tuple(found[0])


def _distance_to(edge: BoolArray, step: tuple[float, ...]) -> NDArray[np.floating]:
    if edge.ndim != 2 or step[0] != step[1]:
        return np.asarray(ndimage.distance_transform_edt(~edge, sampling=step))
    outside = (~edge).astype(np.uint8)
    # exact as well, and several times faster
    return cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) * np.float64(step[0])
