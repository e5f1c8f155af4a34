"""Near-duplicates by content: the same picture recompressed, mirrored, cropped a little, annotated.

A 64-bit hash of low frequencies proposes pairs; the correlation of small, high-passed pictures
decides. Ultrasound pictures resemble each other in the large (bright skin, dark depth), so the
plain correlation of unrelated images reaches 0.94; that of the details stays below 0.7.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter

from samling.data.case import Modality

SIDE = 32
HASH_DISTANCE = 18
SURE_DETAIL = 0.70
LIKELY_DETAIL, LIKELY_PLAIN = 0.55, 0.90
ALIKE_BY_NATURE = 0.90
"""Detail correlation asked of CT: slices of two people at one level reach 0.71."""
_BLOCK = 1024
_FLAT = 1e-3


@dataclass(frozen=True)
class Pair:
    """Two near-duplicates.

    Args:
        first, second: positions in the list of thumbnails.
        similarity: correlation of details, 0..1.
        mirrored: found only after mirroring left to right.
    """

    first: int
    second: int
    similarity: float
    mirrored: bool


def thumbnail(image: NDArray[np.generic]) -> NDArray[np.float32]:
    """(H, W) any real values -> (32, 32) float32, each pixel the mean of its area."""
    plane = Image.fromarray(np.ascontiguousarray(image, dtype=np.float32))
    return np.asarray(plane.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32)


def near_duplicates(
    thumbnails: Sequence[NDArray[np.float32]], modalities: Sequence[Modality] = ()
) -> list[Pair]:
    """All pairs of near-duplicates among (32, 32) thumbnails, in order of position.

    `modalities`, where given, has one entry per thumbnail: of CT slices more likeness is asked.
    """
    if len(thumbnails) < 2:
        return []
    upright = np.stack(thumbnails)
    pairs: dict[tuple[int, int], Pair] = {}
    for mirrored in (False, True):
        other = upright[:, :, ::-1] if mirrored else upright
        for first, second, detail in _matches(_Features.of(upright), _Features.of(other)):
            for i, j, value in zip(first.tolist(), second.tolist(), detail.tolist(), strict=True):
                pairs.setdefault((i, j), Pair(i, j, round(value, 3), mirrored))
    found = [pairs[key] for key in sorted(pairs)]
    slices = {index for index, modality in enumerate(modalities) if modality == "ct"}
    return [p for p in found if p.first not in slices or p.similarity >= ALIKE_BY_NATURE]


def merge_groups(
    groups: Sequence[str], pairs: Sequence[Pair], patients: Sequence[str | None] = ()
) -> list[str]:
    """Join groups that a pair or a patient ties together.

    `patients`, where given, has one entry per case, None where unknown. A joined group has the
    smallest of its names.
    """
    parent = {group: group for group in groups}

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    first_of: dict[str, str] = {}
    ties = [(groups[pair.first], groups[pair.second]) for pair in pairs]
    for group, patient in zip(groups, patients or [None] * len(groups), strict=True):
        if patient is not None:
            ties.append((first_of.setdefault(patient, group), group))
    for one, other in ties:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return [root(group) for group in groups]


@dataclass(frozen=True)
class _Features:
    """bits (N, 64) of ±1; plain and detail (N, 1024), each of mean 0 and length 1 (0 if flat)."""

    bits: NDArray[np.float32]
    plain: NDArray[np.float32]
    detail: NDArray[np.float32]

    @classmethod
    def of(cls, thumbnails: NDArray[np.float32]) -> "_Features":
        low = dctn(thumbnails, axes=(1, 2), norm="ortho")[:, :8, :8].reshape(-1, 64)
        bits = np.where(low > np.median(low, axis=1, keepdims=True), 1, -1).astype(np.float32)
        smooth = gaussian_filter(thumbnails, sigma=(0, 2, 2))
        return cls(bits, _unit(thumbnails), _unit(thumbnails - smooth))


def _unit(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    rows = pictures.reshape(len(pictures), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(length > _FLAT, rows / np.maximum(length, _FLAT), 0).astype(np.float32)


def _matches(
    left: _Features, right: _Features
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]]:
    """Blocks of (first, second, detail correlation) with first < second."""
    count = len(left.bits)
    for start in range(0, count, _BLOCK):
        rows = slice(start, start + _BLOCK)
        # ±1 vectors: their product is 64 - 2 * Hamming distance.
        close = left.bits[rows] @ right.bits.T >= 64 - 2 * HASH_DISTANCE
        detail = left.detail[rows] @ right.detail.T
        first, second = np.nonzero(close & (detail >= LIKELY_DETAIL))
        ahead = first + start < second
        first, second = first[ahead], second[ahead]
        values = detail[first, second]
        plain = np.einsum("nk,nk->n", left.plain[first + start], right.plain[second])
        kept = (values >= SURE_DETAIL) | (plain >= LIKELY_PLAIN)
        yield first[kept] + start, second[kept], values[kept]
