"""Frame: the map between an image's own pixels and the square a model sees."""

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
P = TypeVar("P", bound=np.generic)
Fit = Literal["pad", "stretch"]


@dataclass(frozen=True)
class Frame:
    """Longest side to `size`, aspect kept, padding at the right and the bottom (SAM's rule).

    Coordinates are continuous: pixel (column i, row j) covers [i, i + 1) x [j, j + 1), its centre is
    (i + 0.5, j + 0.5). This is the only place that resizes coordinates.

    Args:
        height, width: of the original image, in pixels, both at least 1.
        size: side of the model's square input, in pixels.
        fit: `stretch` fills the square without padding instead (SAM 2's rule).

    >>> Frame(480, 640, 256).inner
    (192, 256)
    """

    height: int
    width: int
    size: int
    fit: Fit = "pad"

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.size) < 1:
            raise ValueError(f"Frame needs positive sizes, got {self}")

    @property
    def inner(self) -> tuple[int, int]:
        """(height, width) in model pixels of the part of the square that holds the image."""
        if self.fit == "stretch":
            return self.size, self.size
        scale = self.size / max(self.height, self.width)
        return max(1, int(self.height * scale + 0.5)), max(1, int(self.width * scale + 0.5))

    @property
    def scale(self) -> NDArray[np.float64]:
        """(2,) model pixels per original pixel, along x and y."""
        inner_height, inner_width = self.inner
        return np.array([inner_width / self.width, inner_height / self.height])

    def to_model(self, xy: FloatArray) -> NDArray[np.float64]:
        """(..., 2) continuous xy of the original -> of the model's square."""
        return np.asarray(xy, dtype=np.float64) * self.scale

    def to_original(self, xy: FloatArray) -> NDArray[np.float64]:
        """(..., 2) continuous xy of the model's square -> of the original. Inverse of `to_model`."""
        return np.asarray(xy, dtype=np.float64) / self.scale

    def image_to_model(self, image: NDArray[Any]) -> NDArray[Any]:
        """(H, W) or (H, W, C) -> resized (h, w[, C]) of `inner` size, not padded yet.

        Shrinks by area (every source pixel counts), enlarges bilinearly; dtype is kept.
        """
        height, width = self.inner
        smaller = min(height, image.shape[0]), min(width, image.shape[1])
        if smaller != image.shape[:2]:
            image = cv2.resize(image, smaller[::-1], interpolation=cv2.INTER_AREA)
        if (height, width) != smaller:
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        return image

    def labels_to_model(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W) integer labels -> (size, size), nearest neighbour, zero padded."""
        height, width = self.inner
        resized = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        return self.pad(resized.astype(np.uint8, copy=False))

    def pad(self, inner: NDArray[P], value: float = 0) -> NDArray[P]:
        """(h, w[, C]) of `inner` size -> (size, size[, C]), `value` at the right and the bottom."""
        out = np.full((self.size, self.size, *inner.shape[2:]), value, dtype=inner.dtype)
        out[: inner.shape[0], : inner.shape[1]] = inner
        return out

    def logits_to_original(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """(P, h, w) logits that cover the whole square, at any resolution -> (P, H, W).

        One bilinear step: each original pixel samples the logits at the centre that it maps to.
        """
        height, width = logits.shape[-2:]
        # Cells of the grid per original pixel, x and y
        cells = np.array([width, height]) / self.size * self.scale
        # Only what the image needs, and a cell around it; `cv2.resize` maps centres like this frame
        rows = min(height, math.ceil(self.height * cells[1]) + 1)
        columns = min(width, math.ceil(self.width * cells[0]) + 1)
        fx, fy = 1 / cells
        whole = np.empty((len(logits), self.height, self.width), dtype=np.float32)
        for plane, found in zip(logits, whole, strict=True):
            part = np.ascontiguousarray(plane[:rows, :columns], dtype=np.float32)
            larger = cv2.resize(part, None, fx=fx, fy=fy, interpolation=cv2.INTER_LINEAR)
            found[:] = larger[: self.height, : self.width]
        return whole
