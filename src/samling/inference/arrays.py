"""What users hand in as arrays: images made grey, boxes and points made prompts."""

from os import PathLike

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from samling.errors import InputError
from samling.prompts.prompt import Prompt

MAXIMUM_SIDE_PX = 32_000
"""OpenCV's warps count pixels in 16 bits."""


def grey(image: ArrayLike) -> NDArray[np.generic]:
    """(H, W), (H, W, 1) or (H, W, 3 | 4) RGB(A) -> (H, W) by luminance; the range is kept.

    Raises:
        InputError: another shape, no pixels, too large a side, or no real numbers.
    """
    if isinstance(image, str | PathLike):
        remedy = "open it first, e.g. np.asarray(PIL.Image.open(path))"
        raise InputError("image", "is a path, not an array of pixels", remedy)
    array = np.asarray(image)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        problem = f"has shape {array.shape}, not (height, width) or (height, width, 3)"
        raise InputError("image", problem, "give one grey or RGB image")
    if min(array.shape) < 1 or max(array.shape[:2]) > MAXIMUM_SIDE_PX:
        problem = f"has {array.shape[1]} x {array.shape[0]} pixels"
        raise InputError("image", problem, f"give sides of 1 to {MAXIMUM_SIDE_PX} pixels")
    if array.dtype.kind not in "biuf":
        problem = f"has values of type {array.dtype}"
        raise InputError("image", problem, "give integers or real numbers")
    if array.dtype.kind == "b":
        array = array.astype(np.uint8)
    if array.ndim == 2:
        return array
    if array.shape[2] == 1:
        return array[..., 0]
    kept = array if array.dtype in (np.uint8, np.uint16, np.float32) else array.astype(np.float32)
    return cv2.cvtColor(np.ascontiguousarray(kept[..., :3]), cv2.COLOR_RGB2GRAY)


def prompts_of(
    boxes: ArrayLike | None, points: ArrayLike | None, point_labels: ArrayLike | None
) -> list[Prompt]:
    """Arrays as a user gives them -> one prompt per box, one for all points; none: automatic.

    Raises:
        InputError: not numbers, or a wrong shape.
    """
    prompts: list[Prompt] = []
    if boxes is not None:
        rows = numbers(boxes, "boxes").reshape(-1, 4) if np.size(boxes) % 4 == 0 else None
        if rows is None:
            raise InputError("boxes", "are not rows of four numbers", "give x0, y0, x1, y1 each")
        prompts += [Prompt(box=row) for row in rows]
    if points is not None:
        prompts.append(point_prompt(points, point_labels))
    elif point_labels is not None:
        raise InputError("point_labels", "came without points", "give the points too")
    given = boxes is not None or points is not None
    return prompts if given else [Prompt()]


def point_prompt(points: ArrayLike, labels: ArrayLike | None = None) -> Prompt:
    """Points (N, 2) or (2,) and labels (N,) (all 1 if None) of one object.

    Raises:
        InputError: not numbers, or a wrong shape.
    """
    if np.size(points) % 2:
        raise InputError("points", "are not pairs of numbers", "give x, y each")
    xy = numbers(points, "points").reshape(-1, 2)
    if len(xy) == 0:
        raise InputError("points", "are empty", "give at least one point, or leave them out")
    kinds = np.ones(len(xy)) if labels is None else numbers(labels, "point_labels").reshape(-1)
    if not np.isin(kinds, (0, 1)).all():
        raise InputError("point_labels", "must be 1 (inside) or 0 (outside)", "use 1 or 0")
    return Prompt(points=xy, point_labels=kinds.astype(np.int64))


def numbers(values: ArrayLike, where: str) -> NDArray[np.float64]:
    """Anything array-like as float64.

    Raises:
        InputError: something in it is no number.
    """
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(where, "are not all numbers", "give plain numbers in pixels") from None
