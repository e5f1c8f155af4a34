"""Leaks by content: one picture in two sets, also mirrored, turned by 90°, cropped a little, compressed.

`duplicates.py` groups a set before it is split, fast; this asks more thoroughly whether an image is in
another set. Coarse pictures propose candidates in all eight positions; for each, the details of one are
slid over those of the other, shrunk as a crop would need it. What counts is their best correlation.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from samling.data.intensity import min_max

SIDE = 64
COARSE = 16
CANDIDATES = 8
"""Most alike in the coarse that are looked at closely; true copies were among the first four."""
CROP = 0.95
"""What is left of a side in the coarse views of crops."""
SCALES = (1.0, 0.975, 0.95, 0.925, 0.9)
"""What a crop may leave of a side: 5 % off each of its ends at most."""
ALIKE = 0.78
"""Copies that were changed in every way reach 0.81 and more, other pictures 0.75: scripts/leak_check.py."""
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


def find_leaks(first: Sequence[Plane], second: Iterable[Plane]) -> list[Leak]:
    """Pairs of one picture in both lists of fingerprints, best first within each of `second`."""
    if not len(first):
        return []
    gallery = _Gallery(first)
    leaks = []
    for number, plane in enumerate(second):
        turned = positions(plane)
        found = {
            index: _overlap(_details(first[index]), _details(turned[position]))
            for index, position in gallery.candidates(turned)
        }
        best = sorted(found.items(), key=lambda item: -item[1])
        leaks += [Leak(i, number, round(value, 3)) for i, value in best if value >= ALIKE]
    return leaks


class _Gallery:
    """Pictures in the coarse, as a whole and cropped: either of two copies may be a crop of the other."""

    def __init__(self, planes: Sequence[Plane]) -> None:
        self.views = np.stack([_coarse(_views(plane)) for plane in planes])  # (N, views, 256)

    def candidates(self, turned: Sequence[Plane]) -> list[tuple[int, int]]:
        """The most alike of the gallery's pictures, each with the position that makes it so."""
        asked = np.stack([_coarse(_views(plane)) for plane in turned])  # (positions, views, 256)
        whole_in_asked = self.views[:, 0] @ asked.reshape(-1, asked.shape[-1]).T
        asked_in_whole = self.views @ asked[:, 0].T
        scores = np.maximum(
            whole_in_asked.reshape(len(self.views), *asked.shape[:2]).max(2),
            asked_in_whole.max(1),
        )  # (N, positions)
        best = np.argsort(-scores.max(1), kind="stable")[:CANDIDATES]
        return [(int(index), int(scores[index].argmax())) for index in best]


def _views(plane: Plane) -> Plane:
    """(6, 64, 64): the picture, and what a crop leaves of it at its corners and in its middle."""
    left = round(SIDE * CROP)
    most = SIDE - left
    corners = [(0, 0), (0, most), (most, 0), (most, most), (most // 2, most // 2)]
    crops = [plane[top : top + left, start : start + left] for top, start in corners]
    return np.stack([plane, *(cv2.resize(crop, (SIDE, SIDE)) for crop in crops)])


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
    """Neither what pictures of one kind share nor what half a pixel's shift destroys."""
    plane = np.ascontiguousarray(plane)
    fine, coarse = (cv2.GaussianBlur(plane, (0, 0), sigma) for sigma in (0.9, 2.0))
    return np.asarray(fine - coarse, dtype=np.float32)


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
