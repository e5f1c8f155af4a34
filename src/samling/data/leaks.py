"""Leaks by content: one picture in two sets, also mirrored, turned by 90°, cropped a little, compressed.

`duplicates.py` groups a set before it is split, fast; this asks more thoroughly whether an image is in
another set. Coarse pictures propose candidates in all eight positions; for each, the details of one are
slid over those of the other, shrunk as a crop would need it. What counts is their best correlation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from samling.data.intensity import min_max

SIDE = 64
COARSE = 16
CANDIDATES = 4
"""Most alike in the coarse, per image, that are looked at closely."""
SCALES = (1.0, 0.975, 0.95, 0.925, 0.9)
"""What a crop may leave of a side: 5 % off each of its ends at most."""
ALIKE = 0.75
"""Real copies cropped by 5 % reach 0.83 and more, other pictures of the shared sets 0.62 at most."""
PROMISING = 0.5
"""Below it at every other scale, the scales between are not tried."""
_FLAT = 1e-3
Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Leak:
    """One image in both sets.

    Args:
        first, second: positions in the two lists.
        similarity: correlation of details where they overlap best, 0..1.
    """

    first: int
    second: int
    similarity: float


def fingerprint(image: NDArray[np.generic]) -> Plane:
    """(H, W) any real values -> (64, 64), each pixel the mean of its area, from 0 to 1."""
    plane = cv2.resize(image.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return min_max(plane)


def find_leaks(first: Sequence[Plane], second: Sequence[Plane]) -> list[Leak]:
    """Pairs of one picture in both lists of fingerprints, best first within each of `second`."""
    if not len(first) or not len(second):
        return []
    gallery = np.concatenate([_coarse(plane[None]) for plane in first])
    leaks = []
    for number, plane in enumerate(second):
        turned = positions(plane)
        scores = gallery @ _coarse(np.stack(turned)).T  # (first, 8)
        found: dict[int, float] = {}
        for place in np.argsort(-scores, axis=None)[:CANDIDATES]:
            index, position = divmod(int(place), len(turned))
            value = _overlap(_details(first[index]), _details(turned[position]))
            found[index] = max(value, found.get(index, 0.0))
        best = sorted(found.items(), key=lambda item: -item[1])
        leaks += [Leak(i, number, round(value, 3)) for i, value in best if value >= ALIKE]
    return leaks


def positions(plane: Plane) -> list[Plane]:
    """The eight ways to lay a square picture down: turned by 90° and mirrored."""
    turned = [np.rot90(plane, quarter) for quarter in range(4)]
    return [*turned, *(other[:, ::-1] for other in turned)]


def _coarse(planes: Plane) -> Plane:
    """(N, 64, 64) -> (N, 256) of mean 0 and length 1: what a small crop hardly changes."""
    count, block = len(planes), SIDE // COARSE
    rows = planes.reshape(count, COARSE, block, COARSE, block).mean((2, 4)).reshape(count, -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(length, _FLAT), dtype=np.float32)


def _details(plane: Plane) -> Plane:
    plane = np.ascontiguousarray(plane)
    return np.asarray(plane - cv2.GaussianBlur(plane, (0, 0), 3.0), dtype=np.float32)


def _overlap(one: Plane, other: Plane) -> float:
    """Best correlation of either picture, shrunk as a crop of the other would be, within the other."""
    if min(one.std(), other.std()) < _FLAT:
        return 0.0  # flat pictures are alike for nothing
    rough = _best(one, other, SCALES[::2])
    return rough if rough < PROMISING else max(rough, _best(one, other, SCALES))


def _best(one: Plane, other: Plane, scales: Sequence[float]) -> float:
    best = 0.0
    for whole, part in ((one, other), (other, one)):
        for across in scales:
            for down in scales:
                size = round(SIDE * across), round(SIDE * down)
                matched = cv2.matchTemplate(whole, cv2.resize(part, size), cv2.TM_CCOEFF_NORMED)
                best = max(best, float(matched.max()))
    return best
