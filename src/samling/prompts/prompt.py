"""Prompt: what the user points at for one object, and its form as tokens for a prompt encoder."""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from samling.errors import InputError
from samling.prompts.frame import Frame

AUTOMATIC_TOKENS = 4
"""How many learned tokens stand for the default prompt of automatic mode."""

TokenPadding = Literal["points", "always", "six"]
"""Padding tokens: one after points alone (SAM), one after everything (SAM 2), up to six tokens in all
(EfficientSAM)."""


class Token(IntEnum):
    """Kinds of prompt tokens; the first five numbers are those of SAM's ONNX decoder."""

    PADDING = -1
    NEGATIVE = 0
    POSITIVE = 1
    TOP_LEFT = 2
    BOTTOM_RIGHT = 3
    AUTOMATIC = 4  # and the next AUTOMATIC_TOKENS - 1 numbers; further classes follow


def _no_points() -> NDArray[np.float64]:
    return np.zeros((0, 2))


def _no_labels() -> NDArray[np.int64]:
    return np.zeros((0,), dtype=np.int64)


ONLY_OUTSIDE = "add a point inside it, of label 1, or a box for the same object"
"""What to do about points that only say where an object is not."""


@dataclass(frozen=True)
class Prompt:
    """One object's prompt, in continuous pixels of the original image. Nothing set: automatic.

    Args:
        box: (4,) x0, y0, x1, y1 with x1, y1 exclusive (pixel i covers [i, i + 1)), or None.
        points: (N, 2) x, y in continuous pixels: the centre of pixel (i, j) is (i + 0.5, j + 0.5).
        point_labels: (N,) 1 inside the object, 0 outside.
        mask: (4h, 4w) earlier low-resolution logits of the same object (h, w: the embedding), or None.
        class_index: automatic: look for this class, from 0; None: for all that the model tells apart.
    """

    box: NDArray[np.float64] | None = None
    points: NDArray[np.float64] = field(default_factory=_no_points)
    point_labels: NDArray[np.int64] = field(default_factory=_no_labels)
    mask: NDArray[np.float32] | None = None
    class_index: int | None = None

    @property
    def automatic(self) -> bool:
        """True if the user points at nothing."""
        return self.box is None and len(self.points) == 0 and self.mask is None

    @property
    def only_outside(self) -> bool:
        """True if the user says where the object is not, and nothing else."""
        pointed = self.box is not None or self.mask is not None or np.any(self.point_labels)
        return len(self.points) > 0 and not pointed

    def check(self, height: int, width: int, where: str = "prompt") -> "Prompt":
        """Return itself if it can be used on an image of this size.

        Raises:
            InputError: not finite, wrong shape, a box without area, outside the image, bad label,
                points that only say where the object is not.
        """
        if self.box is not None:
            _check_box(np.asarray(self.box, dtype=np.float64), height, width, where)
        points, labels = np.asarray(self.points), np.asarray(self.point_labels)
        if points.shape != (len(labels), 2) or not np.isfinite(points).all():
            raise InputError(where, "points need finite x, y and one label each", "give x,y,label")
        if ((labels != 0) & (labels != 1)).any():  # np.isin is much slower
            raise InputError(where, "point labels must be 1 (inside) or 0 (outside)", "use 1 or 0")
        if len(points) and not ((points >= 0) & (points <= (width, height))).all():
            raise InputError(where, "a point lies outside the image", _inside(height, width))
        if self.only_outside:
            raise InputError(where, "points only say where the object is not", ONLY_OUTSIDE)
        return self

    def tokens(
        self, frame: Frame, padding: TokenPadding = "points"
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Coordinates (N, 2) in model pixel indices and `Token` labels (N,).

        Pixel indices are SAM's: its prompt encoder adds the half pixel. A box becomes its first and
        its last pixel; `padding` says which padding tokens follow.
        """
        if self.automatic:
            first = Token.AUTOMATIC + AUTOMATIC_TOKENS * (self.class_index or 0)
            kinds = np.arange(AUTOMATIC_TOKENS) + first
            return np.zeros((AUTOMATIC_TOKENS, 2), dtype=np.float32), kinds.astype(np.int64)
        coords = [frame.to_model(self.points) - 0.5]
        labels = [self.point_labels]
        if self.box is not None:
            # Inside the image, where positions mean something; its last pixel is never before its first
            box = np.clip(self.box.reshape(2, 2), 0, [frame.width, frame.height])
            first, last = frame.to_model(box) - [[0.0, 0.0], [1.0, 1.0]]
            coords.append(np.stack([first, np.maximum(first, last)]))
            labels.append(np.array([Token.TOP_LEFT, Token.BOTTOM_RIGHT]))
        pads = int(padding == "always" or self.box is None)
        if padding == "six":
            pads = max(0, 6 - sum(map(len, labels)))
        coords.append(np.zeros((pads, 2)))
        labels.append(np.full(pads, Token.PADDING))
        return np.concatenate(coords).astype(np.float32), np.concatenate(labels).astype(np.int64)


def _check_box(box: NDArray[np.float64], height: int, width: int, where: str) -> None:
    if box.shape != (4,) or not np.isfinite(box).all():
        raise InputError(where, f"box {box.tolist()} is not four numbers", "give x0,y0,x1,y1")
    x0, y0, x1, y1 = box
    if x1 <= x0 or y1 <= y0:
        raise InputError(where, f"box {box.tolist()} has no area", "give x0 < x1 and y0 < y1")
    if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
        problem = f"box {box.tolist()} lies outside the image"
        raise InputError(where, problem, _inside(height, width))


def _inside(height: int, width: int) -> str:
    return f"use x in 0..{width}, y in 0..{height}"
