"""Regions of a mask: the box around it, what a prompt reaches, how many fit into memory."""

import cv2
import numpy as np
from numpy.typing import NDArray

MAXIMUM_OBJECTS = 1_000
MAXIMUM_MASK_BYTES = 2 << 30
"""Of all masks of one image together, one byte per pixel."""


def objects_at_most(height: int, width: int) -> int:
    """How many masks of this size are kept in memory at once, at least one."""
    return max(1, min(MAXIMUM_OBJECTS, MAXIMUM_MASK_BYTES // (height * width)))


def regions_in_reach(mask: NDArray[np.bool_], box: NDArray[np.float64]) -> NDArray[np.bool_]:
    """`mask` without its 8-connected regions that lie wholly outside of `box`.

    A stray speck far from the box would change the object's diameter, not its nature.
    """
    if (around := box_around(mask)) is None:
        return mask
    left, top, right, bottom = around  # only there anything is to be told apart
    part = mask[top:bottom, left:right]
    count, regions = cv2.connectedComponents(part.astype(np.uint8), connectivity=8)
    if count <= 2:
        return mask
    x0, y0 = (np.floor(box[:2]).astype(int) - (left, top)).clip(0)
    x1, y1 = (np.ceil(box[2:]).astype(int) - (left, top)).clip(0)
    reached = np.unique(regions[y0:y1, x0:x1])
    reached = reached[reached > 0]
    if not len(reached):
        return mask
    kept = np.zeros_like(mask)
    kept[top:bottom, left:right] = np.isin(regions, reached)
    return kept


def box_around(mask: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """(x0, y0, x1, y1) of the pixels that are set, x1 and y1 exclusive; None if there are none.

    >>> box_around(np.array([[False, False, False], [False, True, True]]))
    (1, 1, 3, 2)
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
