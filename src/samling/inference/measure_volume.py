"""Measurements of a segmented volume: millilitres, number of lesions, diameters, tumour burden."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from samling.inference.clean_volume import box_of, part_sizes
from samling.inference.measure import measure

LISTED_AT_MOST = 200
"""Separate parts of one class that get a row of their own."""
SMALL_ML, SMALL_SHARE = 0.01, 0.01
"""A part below both, millilitres (a ball of 2.7 mm) and share of its class, is a speck without a row."""
_TOUCHING = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class VolumeMeasurement:
    """A class as a whole (`part` None) or one of its connected parts, largest first from 1.

    Args:
        part: "smaller": all parts without a row of their own, together, so that volumes add up.
        parts: how many connected parts (26 neighbours) the class has: for a tumour, its lesions.
        longest_diameter_mm: the largest distance between two outline points in one slice, as lesions
            are measured by hand (RECIST); of a class, that of its part with the largest;
            None for "smaller".
        share_percent: of this class in all classes together; for a tumour inside an organ, the
            tumour burden.
        slices: first and last slice, counted from 0; None if it is empty.
    """

    class_name: str
    part: int | Literal["smaller"] | None
    volume_ml: float
    parts: int
    longest_diameter_mm: float | None
    share_percent: float
    slices: tuple[int, int] | None


def measure_volume(
    labels: NDArray[np.uint8],
    classes: Sequence[str],
    spacing_mm: tuple[float, float, float],
    voxel_ml: float,
) -> list[VolumeMeasurement]:
    """A row per class, and a row per connected part where there are several or where it is no organ.

    Specks, and parts beyond `LISTED_AT_MOST`, share one row: there may be thousands of single voxels.

    Args:
        labels: (D, H, W) class numbers, 1 is `classes[0]`.
        voxel_ml: volume of a voxel in millilitres.
    """
    whole = int(np.count_nonzero(labels))
    rows: list[VolumeMeasurement] = []
    for number, name in enumerate(classes, start=1):
        total, *parts = _of_class(labels == number, name, spacing_mm, voxel_ml, whole)
        rows += [total, *parts] if total.parts > 1 or number > 1 else [total]
    return rows


def _of_class(
    own: NDArray[np.bool_],
    name: str,
    spacing_mm: tuple[float, float, float],
    voxel_ml: float,
    whole: int,
) -> list[VolumeMeasurement]:
    """The class as a whole, its parts, and together those without a row of their own."""
    region = box_of(own) if own.any() else (slice(0, 1),) * 3
    start = region[0].start
    # part numbers take four bytes per voxel: only where the class is
    parts, count = ndimage.label(own[region], _TOUCHING)
    sizes = part_sizes(parts, count)[1:]
    order = np.argsort(-sizes, kind="stable")
    boxes = ndimage.find_objects(parts)
    singles = [
        _row(
            parts[boxes[k]] == k + 1, start + boxes[k][0].start, (name, place, 1), spacing_mm,
            voxel_ml, whole,
        )
        for place, k in enumerate(order[:LISTED_AT_MOST], start=1)
    ]  # fmt: skip
    small = (sizes * voxel_ml < SMALL_ML) & (sizes < SMALL_SHARE * sizes.sum())
    listed = min(count - int(np.count_nonzero(small)), LISTED_AT_MOST)
    spans = [(start + box[0].start, start + box[0].stop - 1) for box in boxes]
    widest = max((one.longest_diameter_mm or 0.0 for one in singles), default=0.0)
    rows = [_together(name, None, sizes, spans, voxel_ml, whole, widest), *singles[:listed]]
    if listed < count:
        rest, where = sizes[order[listed:]], [spans[k] for k in order[listed:]]
        rows.append(_together(name, "smaller", rest, where, voxel_ml, whole, None))
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


def _together(
    name: str,
    part: Literal["smaller"] | None,
    sizes: NDArray[np.int64],
    spans: list[tuple[int, int]],
    voxel_ml: float,
    whole: int,
    widest_mm: float | None,
) -> VolumeMeasurement:
    """Parts of these sizes (voxels) in these slices as one row."""
    total = int(sizes.sum())
    return VolumeMeasurement(
        class_name=name,
        part=part,
        volume_ml=total * voxel_ml,
        parts=len(sizes),
        longest_diameter_mm=widest_mm,
        share_percent=100 * total / whole if whole else 0.0,
        slices=(min(a for a, _ in spans), max(b for _, b in spans)) if spans else None,
    )
