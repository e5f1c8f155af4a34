"""Prompts simulated from labels: for training, and as named protocols for evaluation.

| protocol | one prompt per connected component of every class of the label |
| --- | --- |
| `box` | tight box |
| `jitter<n>` | each side of the box moved uniformly by up to ±n % of the box's extent along that axis |
| `point1` | a point of the inner half: at least half as far from the boundary as the deepest pixel |
| `point<n>` | the same, and n - 1 points anywhere inside |
| `clicks<n>` | starts as `point1`; the caller adds n - 1 corrections with `correct` |
| `boxclicks<n>` | starts as `box`; the caller adds n corrections |
| `noc<n>` | as `clicks`, until the image's Dice reaches n % |
| `auto` | one prompt that points at nothing, for the whole image |
"""

import re

import cv2
import numpy as np
from numpy.typing import NDArray

from samling.prompts.prompt import Prompt

MINIMUM_COMPONENT = 16
"""Components below this many pixels are specks of annotation, unless nothing else is there."""

BoolArray = NDArray[np.bool_]


def components(label: BoolArray) -> list[BoolArray]:
    """(H, W) -> the 8-connected components of at least 16 px, largest first; the largest one always."""
    count, numbers = cv2.connectedComponents(label.astype(np.uint8), connectivity=8)
    if count <= 2:
        return [label.astype(bool)] if count == 2 else []
    areas = np.bincount(numbers.ravel(), minlength=count)[1:]
    order = np.argsort(-areas, kind="stable")
    kept = [k for i, k in enumerate(order) if i == 0 or areas[k] >= MINIMUM_COMPONENT]
    return [numbers == k + 1 for k in kept]


def objects(label: NDArray[np.integer] | BoolArray) -> list[BoolArray]:
    """(H, W) classes, 0 for none -> the components of every class, largest first.

    Two organs that touch are two objects: a user draws a box about each.
    """
    classes = [int(value) for value in np.unique(label) if value]
    parts = [part for value in classes for part in components(label == value)]
    return sorted(parts, key=np.count_nonzero, reverse=True)


def simulate(
    label: NDArray[np.integer] | BoolArray, protocol: str, rng: np.random.Generator
) -> list[Prompt]:
    """Prompts for the objects of a label (H, W), largest first; see the table above.

    An empty label has no object, so only `auto` gives a prompt.

    Raises:
        ValueError: unknown protocol.
    """
    if protocol == "auto":
        return [Prompt()]
    return [prompt_of(component, protocol, rng) for component in objects(label)]


def prompt_of(component: BoolArray, protocol: str, rng: np.random.Generator) -> Prompt:
    """One prompt for one object's mask (H, W), not empty.

    Raises:
        ValueError: unknown protocol.
    """
    match = re.fullmatch(r"(jitter|point|clicks|boxclicks|noc)([1-9]\d?)", protocol)
    if protocol == "box" or (match and match[1] == "boxclicks"):
        return Prompt(box=tight_box(component))
    if match is None:
        known = "box, jitter<n>, point<n>, clicks<n>, boxclicks<n>, noc<n>, auto"
        raise ValueError(f"unknown prompt protocol {protocol!r}; known: {known}")
    kind, number = match[1], int(match[2])
    if kind == "jitter":
        return Prompt(box=jitter(tight_box(component), number / 100, component.shape, rng))
    points = _points(component, number if kind == "point" else 1, rng)
    return Prompt(points=points, point_labels=np.ones(len(points), dtype=np.int64))


def tight_box(mask: BoolArray) -> NDArray[np.float64]:
    """(4,) x0, y0, x1, y1 (exclusive) of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float64)


def jitter(
    box: NDArray[np.float64], amount: float, shape: tuple[int, ...], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Move each side by up to ±`amount` of the box's extent, inside an image of `shape` (H, W)."""
    width, height = box[2] - box[0], box[3] - box[1]
    moved = box + rng.uniform(-amount, amount, 4) * [width, height, width, height]
    moved = np.clip(moved, 0, [shape[1], shape[0], shape[1], shape[0]])
    usable = moved[2] - moved[0] >= 1 and moved[3] - moved[1] >= 1
    return moved if usable else box


def correct(
    prompt: Prompt, label: BoolArray, predicted: BoolArray, rng: np.random.Generator
) -> Prompt:
    """The prompt with one more click, in the inner half of the largest region that is wrong.

    Positive where the object was missed, negative where too much was taken; unchanged if all is right.
    """
    wrong = components(label != predicted)
    if not wrong:
        return prompt
    point = _points(wrong[0], 1, rng)
    x, y = point[0].astype(int)
    return Prompt(
        box=prompt.box,
        points=np.concatenate([prompt.points, point]),
        point_labels=np.append(prompt.point_labels, int(label[y, x])),
        mask=prompt.mask,
    )


def deepest_point(mask: BoolArray) -> NDArray[np.float64]:
    """(2,) x, y: the centre of the pixel that is farthest from the boundary of a mask (H, W), not empty."""
    depth = _depth(mask)
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return np.array([column, row]) + 0.5


def _depth(mask: BoolArray) -> NDArray[np.float32]:
    """(H, W) distance of every pixel to the outside, which begins at the picture's edge."""
    padded = np.pad(mask.astype(np.uint8), 1)
    return cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1].astype(np.float32)


def _points(mask: BoolArray, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(count, 2) centres of pixels inside: the first in the inner half, the others anywhere."""
    depth = _depth(mask)
    inner = np.argwhere(depth >= 0.5 * depth.max())
    anywhere = np.argwhere(mask)
    chosen = [inner[rng.integers(len(inner))]]
    chosen += [anywhere[rng.integers(len(anywhere))] for _ in range(count - 1)]
    return np.array(chosen)[:, ::-1] + 0.5  # row, column -> x, y of the pixel's centre
