"""Baselines that look at the prompt only: what a box alone is worth."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from samling.prompts.prompt import Prompt

Baseline = Callable[[Sequence[Prompt], tuple[int, int]], NDArray[np.bool_]]


def fill_box(prompts: Sequence[Prompt], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Everything inside the boxes.

    Args:
        prompts: with a box each, x0, y0, x1, y1 in continuous pixels.
        size: (height, width) of the image.

    Returns:
        (H, W) the pixels whose centre lies inside a box.
    """
    mask = np.zeros(size, dtype=bool)
    x, y = _centres(size)
    for x0, y0, x1, y1 in _boxes(prompts):
        mask |= (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
    return mask


def ellipse_in_box(prompts: Sequence[Prompt], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The largest upright ellipse inside each box; arguments as `fill_box`."""
    mask = np.zeros(size, dtype=bool)
    x, y = _centres(size)
    for x0, y0, x1, y1 in _boxes(prompts):
        across = (2 * x - x0 - x1) / (x1 - x0)
        down = (2 * y - y0 - y1) / (y1 - y0)
        mask |= across**2 + down**2 <= 1
    return mask


BASELINES: dict[str, Baseline] = {
    "fill the box": fill_box,
    "ellipse in the box": ellipse_in_box,
}


def _centres(size: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    across, down = np.arange(size[1], dtype=np.float64), np.arange(size[0], dtype=np.float64)
    return across[None] + 0.5, down[:, None] + 0.5


def _boxes(prompts: Sequence[Prompt]) -> list[NDArray[np.float64]]:
    boxes = [prompt.box for prompt in prompts if prompt.box is not None]
    if len(boxes) != len(prompts):
        raise ValueError("this baseline needs a box in every prompt")
    return boxes
