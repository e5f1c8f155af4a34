"""From the shapes of an entry (mask files, polygons, runs) to one plane of class numbers."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes

from samling.data.readers.image import is_lossy, read_mask
from samling.data.sources.entry import MaskFile, Polygon, Problem, RunLength, Shape
from samling.errors import InputError

MAX_CLASS = 31
"""Highest class number; larger values in a mask are taken for grey levels."""

Labels = NDArray[np.uint8]
Marks = NDArray[np.bool_]


def draw(shapes: tuple[Shape, ...], height: int, width: int) -> tuple[Labels, list[Problem]]:
    """Draw shapes into (height, width) labels, later ones on top.

    Returns:
        The labels, and remarks (warnings and infos) on the mask files.

    Raises:
        InputError: a mask cannot be read or understood, or has another size.
    """
    labels = np.zeros((height, width), np.uint8)
    remarks: list[Problem] = []
    for shape in shapes:
        if isinstance(shape, MaskFile):
            drawn = _mask_file(shape, height, width, remarks)
        elif isinstance(shape, Polygon):
            drawn = np.where(fill_polygon(shape.points, height, width), shape.label, 0)
        else:
            drawn = np.where(_runs(shape, height, width), shape.label, 0)
        labels = np.where(drawn > 0, drawn, labels).astype(np.uint8)
    return labels, remarks


def fill_polygon(points: tuple[tuple[float, float], ...], height: int, width: int) -> Marks:
    """Pixels whose centre lies inside the closed contour, by the even-odd rule."""
    corners = np.asarray(points, dtype=np.float64).reshape(-1, 2) - 0.5
    if len(corners) < 3:
        return np.zeros((height, width), bool)
    x0, y0 = corners.T
    x1, y1 = np.roll(corners, -1, axis=0).T
    columns = np.arange(width)
    inside = np.zeros((height, width), bool)
    for row in range(max(0, int(np.floor(y0.min()))), min(height, int(np.ceil(y0.max())) + 1)):
        cut = (y0 <= row) != (y1 <= row)
        at = x0[cut] + (row - y0[cut]) * (x1[cut] - x0[cut]) / (y1[cut] - y0[cut])
        inside[row] = np.searchsorted(np.sort(at), columns, side="right") % 2 == 1
    return inside


def class_numbers(values: NDArray[np.int32], path: Path, *, lossy: bool) -> tuple[Labels, str]:
    """Values of a mask file -> class numbers, and a remark ("" if the values are class numbers).

    0/255 and 0/65535 are 0/1. Values up to 31 are class numbers as they stand. A JPEG, and a mask
    with a few greys along its border, is cut at half.

    Raises:
        InputError: other values.
    """
    found = np.unique(values)
    top = int(found[-1])
    if lossy and 0 < top <= MAX_CLASS:
        raise InputError(path, "has class numbers in a JPEG, which changes them", "save it as PNG")
    if found[0] >= 0 and top <= MAX_CLASS:
        return values.astype(np.uint8), ""
    if top in (255, 65535) and found.size <= 2 and found[0] in (0, top):
        return (values > 0).astype(np.uint8), f"{top} taken as class 1"
    if lossy:
        return (values > 127).astype(np.uint8), "is a JPEG: cut at half"
    near_ends = np.minimum(values, 255 - values) <= 32
    if 224 <= top <= 255 and found[0] >= 0 and near_ends.mean() > 0.95 and found.size > 3:
        return (values > 127).astype(np.uint8), f"has {found.size} grey levels: cut at half"
    shown = ", ".join(str(value) for value in found[:4]) + (" ..." if found.size > 4 else "")
    remedy = f"use 0 and 255, or class numbers 0 to {MAX_CLASS}"
    raise InputError(path, f"is no mask: it has the values {shown}", remedy)


def _mask_file(shape: MaskFile, height: int, width: int, remarks: list[Problem]) -> Labels:
    values = read_mask(shape.path)
    if values.shape != (height, width):
        size = f"{values.shape[0]} x {values.shape[1]}"
        problem = f"is {size}, its image {height} x {width}"
        raise InputError(shape.path, problem, "give both the same size")
    lossy = is_lossy(shape.path)
    labels, remark = class_numbers(values, shape.path, lossy=lossy)
    if remark:
        known = remark.endswith("class 1")
        remedy = "nothing" if known else "save masks as PNG with 0 and 255"
        remarks.append(Problem(str(shape.path), remark, remedy, "info" if known else "warning"))
    if shape.outline:
        labels = binary_fill_holes(labels > 0).astype(np.uint8)
    return labels if shape.label is None else np.where(labels > 0, shape.label, 0).astype(np.uint8)


def _runs(shape: RunLength, height: int, width: int) -> Marks:
    if (shape.height, shape.width) != (height, width) or sum(shape.counts) != height * width:
        raise InputError("run lengths", "do not fit the image's size", "export the labels again")
    values = np.arange(len(shape.counts)) % 2 == 1
    return np.repeat(values, shape.counts).reshape(width, height).T
