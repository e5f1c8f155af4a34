"""Measurements of one object: area, longest diameter, box; in mm where the scale is known."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from samling.inference.regions import box_around


@dataclass(frozen=True)
class Measurement:
    """What a report asks of an object. Everything in mm is None without a known scale."""

    area_px: int
    area_mm2: float | None
    longest_diameter_px: float
    longest_diameter_mm: float | None
    box: tuple[int, int, int, int] | None
    """(x0, y0, x1, y1) pixels, x1 and y1 exclusive; None if the mask is empty."""


def measure(mask: NDArray[np.bool_], spacing_mm: tuple[float, float] | None = None) -> Measurement:
    """Measure a mask.

    The longest diameter is the largest distance between two points of the outline (maximum Feret
    diameter), the outline running through the middles of the pixels' sides: n pixels in a row are
    n long.

    Args:
        mask: (H, W).
        spacing_mm: distance of neighbouring rows and of neighbouring columns.
    """
    area_px = int(np.count_nonzero(mask))
    hull = _hull(mask)
    return Measurement(
        area_px=area_px,
        area_mm2=None if spacing_mm is None else area_px * spacing_mm[0] * spacing_mm[1],
        longest_diameter_px=_widest(hull),
        # an affine map keeps the hull a hull, so the scale may come after it
        longest_diameter_mm=None if spacing_mm is None else _widest(hull * spacing_mm[::-1]),
        box=box_around(mask),
    )


def _hull(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(V, 2) x, y corners of the convex hull of the middles of all pixel sides; (0, 2) if empty."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return np.zeros((0, 2))
    lines = mask[rows]
    first = lines.argmax(axis=1)
    last = mask.shape[1] - 1 - lines[:, ::-1].argmax(axis=1)
    # A hull needs only the ends of each row. Doubled coordinates keep half pixels exact integers.
    ends = np.concatenate([np.stack([first, rows], 1), np.stack([last, rows], 1)]) * 2
    sides = np.array([[-1, 0], [1, 0], [0, -1], [0, 1]])
    middles = (ends[:, None] + sides).reshape(-1, 2).astype(np.int32)
    return cv2.convexHull(middles).reshape(-1, 2) / 2.0


def _widest(corners: NDArray[np.float64]) -> float:
    if not len(corners):
        return 0.0
    difference = corners[:, None] - corners[None]
    return float(np.sqrt((difference**2).sum(axis=-1).max()))
