"""Zoom: a boxed object is looked at again in a square around it, at the model's full resolution.

A lesion that covers a tenth of the image covers ten cells of a 16x16 embedding; in its own square it
covers a quarter of them. Costs one more encoding per box. For models that saw close-ups in training.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from samling.prompts.prompt import Prompt

Region = tuple[int, int, int, int]
SMALLEST_SIDE = 32


def region_around(box: NDArray[np.float64], factor: float, height: int, width: int) -> Region:
    """Square of `factor` times the box's longer side about its centre, cut at the image's edges.

    Returns:
        x0, y0, x1, y1 in whole pixels, x1 and y1 exclusive.

    >>> region_around(np.array([40.0, 40.0, 60.0, 50.0]), 2.0, 100, 100)
    (30, 25, 70, 65)
    """
    x0, y0, x1, y1 = box
    half = max(factor * max(x1 - x0, y1 - y0), SMALLEST_SIDE) / 2
    across, down = (x0 + x1) / 2, (y0 + y1) / 2
    left, top = max(0, int(across - half)), max(0, int(down - half))
    right, bottom = min(width, int(np.ceil(across + half))), min(height, int(np.ceil(down + half)))
    return left, top, right, bottom


def into_region(prompt: Prompt, region: Region) -> Prompt:
    """The same prompt in pixels of the region; points outside of it are left out."""
    left, top, right, bottom = region
    corner, limit = np.array([left, top]), np.array([right - left, bottom - top])
    points = prompt.points - corner
    seen = ((points >= 0) & (points <= limit)).all(axis=1)
    box = prompt.box
    if box is not None:
        box = np.clip(box - np.tile(corner, 2), 0, np.tile(limit, 2)).astype(np.float64)
    return replace(prompt, box=box, points=points[seen], point_labels=prompt.point_labels[seen])
