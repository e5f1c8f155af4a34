"""Clean-up of whole volumes: opening, closing, holes, largest part, small parts; in mm and ml."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from samling.errors import InputError

Marks = NDArray[np.bool_]
_TOUCHING = np.ones((3, 3, 3), bool)
_SLAB_VOXELS = 1 << 23


@dataclass(frozen=True)
class CleanUp:
    """Steps in the order in which they are done; 0 and False leave a step out.

    Args:
        opening: removes what a ball of this radius in mm does not fit into.
        closing: closes gaps that a ball of this radius in mm does not fit into.
        holes: fills what is enclosed on all sides.
        largest: keeps the largest connected part of the first class (the organ) only.
        minimum: removes parts smaller than this many millilitres.
    """

    opening: float = 0.0
    closing: float = 0.0
    holes: bool = False
    largest: bool = False
    minimum: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "CleanUp":
        """Steps with commas between.

        Raises:
            InputError: an unknown step, or a number that is none.

        >>> CleanUp.parse("largest,closing=3")
        CleanUp(opening=0.0, closing=3.0, holes=False, largest=True, minimum=0.0)
        """
        chosen: dict[str, float | bool] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, separator, value = part.partition("=")
            kinds = {f.name: type(f.default) for f in fields(cls)}
            if name not in kinds or (kinds[name] is bool) == bool(separator):
                remedy = "use largest, holes, opening=MM, closing=MM, minimum=ML"
                raise InputError("--clean", f"'{part}' is no step", remedy)
            try:
                chosen[name] = float(value) if separator else True
            except ValueError:
                chosen[name] = -1.0
            if not 0 < chosen[name] < 1000:
                raise InputError("--clean", f"'{part}' is out of range", "give a number above 0")
        return cls(**chosen)  # type: ignore[arg-type]  # the kinds were checked by name


def clean_labels(
    labels: NDArray[np.uint8],
    steps: CleanUp,
    spacing_mm: tuple[float, float, float],
    voxel_ml: float,
    *,
    nested: bool = False,
) -> NDArray[np.uint8]:
    """(D, H, W) class numbers, cleaned class by class. What grows never covers another class.

    Args:
        nested: each class lies inside the one before: it is cleaned together with those inside it,
            and what leaves it belongs to the one around it.
    """
    if steps == CleanUp() or not labels.any():
        return labels
    cleaned = labels.copy()
    margin = [int(np.ceil(steps.closing / step)) + 1 for step in spacing_mm]
    for number in range(1, int(labels.max()) + 1):
        own = cleaned >= number if nested else labels == number
        if not own.any():
            continue
        region = box_of(own, margin)
        # the border of the scan is no wall: closing may pass it
        padded = np.pad(own[region], [(more, more) for more in margin])
        after = _clean(padded, steps, spacing_mm, voxel_ml, organ=number == 1)
        after = after[tuple(slice(more, -more) for more in margin)]
        labelled = cleaned[region]
        around = number - 1 if nested else 0
        labelled[own[region] & ~after] = around
        free = labelled == around if nested else (labelled == 0) & (labels[region] == 0)
        labelled[free & after] = number
    return cleaned


def _clean(
    marks: Marks,
    steps: CleanUp,
    spacing_mm: tuple[float, float, float],
    voxel_ml: float,
    *,
    organ: bool,
) -> Marks:
    if steps.opening:
        marks = _dilated(_eroded(marks, steps.opening, spacing_mm), steps.opening, spacing_mm)
    if steps.closing:
        marks = _eroded(_dilated(marks, steps.closing, spacing_mm), steps.closing, spacing_mm)
    if steps.holes:
        marks = ndimage.binary_fill_holes(marks)
    least = int(np.ceil(steps.minimum / voxel_ml - 1e-9))
    if least > 1 or (steps.largest and organ):
        parts, count = ndimage.label(marks, _TOUCHING)
        sizes = part_sizes(parts, count)
        sizes[0] = 0
        keep = sizes >= max(least, 1)
        if steps.largest and organ and count:
            keep &= np.arange(count + 1) == int(sizes.argmax())
        marks = np.empty(parts.shape, bool)
        for plane, numbers in zip(marks, parts, strict=True):
            plane[:] = keep[numbers]
    return marks


def part_sizes(parts: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """Voxels of each of `count` parts (D, H, W), the background first.

    Slice by slice, as everything that indexes by part: NumPy makes eight bytes of each number.
    """
    sizes = np.zeros(count + 1, np.int64)
    for numbers in parts:
        sizes += np.bincount(numbers.ravel(), minlength=count + 1)
    return sizes


def _eroded(marks: Marks, radius_mm: float, spacing_mm: tuple[float, float, float]) -> Marks:
    """What lies at least a ball's radius from the outside; exact on any grid (Euclidean distance)."""
    return ~_dilated(~marks, radius_mm, spacing_mm)


def _dilated(marks: Marks, radius_mm: float, spacing_mm: tuple[float, float, float]) -> Marks:
    """What lies within a radius of the marks.

    Slab by slab, each with the slices that can reach it: distances take 20 bytes per voxel.
    """
    reach = int(np.ceil(radius_mm / spacing_mm[0])) + 1
    step = max(1, _SLAB_VOXELS // marks[0].size)
    grown = np.zeros_like(marks)
    for start in range(0, len(marks), step):
        low = max(0, start - reach)
        slab = marks[low : start + step + reach]
        if slab.any():
            near = ndimage.distance_transform_edt(~slab, spacing_mm) <= radius_mm
            grown[start : start + step] = near[start - low : start - low + step]
    return grown


def box_of(marks: Marks, margin: Sequence[int] = (0, 0, 0)) -> tuple[slice, ...]:
    """The box around what is marked, wider by `margin`: most of a scan is empty."""
    box = ndimage.find_objects(marks.view(np.uint8))[0]
    return tuple(
        slice(max(0, part.start - more), min(size, part.stop + more))
        for part, more, size in zip(box, margin, marks.shape, strict=True)
    )
