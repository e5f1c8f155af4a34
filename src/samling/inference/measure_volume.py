"""Measurements of a segmented volume: millilitres, number of lesions, diameters, tumour burden."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from samling.inference.clean_volume import box_of, part_sizes
from samling.inference.measure import measure

LISTED_AT_MOST = 200
"""Separate parts of one class that get a row of their own."""
_TOUCHING = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class VolumeMeasurement:
    """A class as a whole (`part` None) or one of its connected parts, largest first from 1.

    Args:
        parts: how many connected parts (26 neighbours) the class has: for a tumour, its lesions.
        longest_diameter_mm: the largest distance between two outline points in one slice, as lesions
            are measured by hand (RECIST); of a class, that of its part with the largest.
        share_percent: of this class in all classes together; for a tumour inside an organ, the
            tumour burden.
        slices: first and last slice, counted from 0; None if it is empty.
    """

    class_name: str
    part: int | None
    volume_ml: float
    parts: int
    longest_diameter_mm: float
    share_percent: float
    slices: tuple[int, int] | None


def measure_volume(
    labels: NDArray[np.uint8],
    classes: Sequence[str],
    spacing_mm: tuple[float, float, float],
    voxel_ml: float,
) -> list[VolumeMeasurement]:
    """A row per class, and a row per connected part where there are several or where it is no organ.

    Args:
        labels: (D, H, W) class numbers, 1 is `classes[0]`.
        voxel_ml: volume of a voxel in millilitres.
    """
    whole = int(np.count_nonzero(labels))
    rows: list[VolumeMeasurement] = []
    for number, name in enumerate(classes, start=1):
        own = labels == number
        levels = np.flatnonzero(own.any(axis=(1, 2)))
        region = box_of(own) if len(levels) else (slice(0, 1),) * 3
        start = region[0].start
        # part numbers take four bytes per voxel: only where the class is
        parts, count = ndimage.label(own[region], _TOUCHING)
        sizes = part_sizes(parts, count)[1:]
        order = np.argsort(-sizes, kind="stable")[:LISTED_AT_MOST]
        boxes = ndimage.find_objects(parts)
        singles = [
            _row(
                parts[boxes[k]] == k + 1, start + boxes[k][0].start, (name, place, 1), spacing_mm,
                voxel_ml, whole,
            )
            for place, k in enumerate(order, start=1)
        ]  # fmt: skip
        total = int(sizes.sum())
        rows.append(
            VolumeMeasurement(
                class_name=name,
                part=None,
                volume_ml=total * voxel_ml,
                parts=count,
                longest_diameter_mm=max((one.longest_diameter_mm for one in singles), default=0.0),
                share_percent=100 * total / whole if whole else 0.0,
                slices=(int(levels[0]), int(levels[-1])) if total else None,
            )
        )
        rows += singles if count > 1 or number > 1 else []
    return rows


def _row(
    marks: NDArray[np.bool_],
    first: int,
    name: tuple[str, int, int],
    spacing_mm: tuple[float, float, float],
    voxel_ml: float,
    whole: int,
) -> VolumeMeasurement:
    size = int(np.count_nonzero(marks))
    widest = [measure(plane, spacing_mm[1:]).longest_diameter_mm or 0.0 for plane in marks]
    return VolumeMeasurement(
        class_name=name[0],
        part=name[1],
        volume_ml=size * voxel_ml,
        parts=name[2],
        longest_diameter_mm=max(widest),
        share_percent=100 * size / whole,
        slices=(first, first + len(marks) - 1),
    )
