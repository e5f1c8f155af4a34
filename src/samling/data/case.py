"""Case: one image or volume of one patient, with labels where known."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Modality = Literal["ultrasound", "ct", "unknown"]


@dataclass(frozen=True)
class Case:
    """One image or volume. The axis order is written here, once.

    Args:
        id: unique within its data set; letters, digits, `_`, `-`, `.`.
        image: (H, W) image, (T, H, W) cine or (D, H, W) volume, float32, stored values unscaled
            (0..255 for 8-bit images, Hounsfield units for CT). Rows run down, columns to the right.
        labels: integers of the image's shape, 0 = background, k = class k; None if unknown.
        spacing_mm: distance of neighbouring samples in axis order of `image`; None if unknown.
        patient: patient, subject or series; None if unknown.
        group: cases of one group never fall on both sides of a split; None: a group of its own.
        category: what the splits are stratified by (benign, malignant, normal ...); "" if unknown.
        source: the file that the image came from.
        hounsfield: the image is in Hounsfield units, -1024 (air) and up.
        neighbours: (2, H, W) of a slice of a volume: the slices before and after, the slice itself
            where there is none; None unless asked for.
    """

    id: str
    image: NDArray[np.float32]
    labels: NDArray[np.uint8] | None = None
    spacing_mm: tuple[float, ...] | None = None
    patient: str | None = None
    group: str | None = None
    category: str = ""
    modality: Modality = "unknown"
    source: Path | None = None
    hounsfield: bool = False
    neighbours: NDArray[np.float32] | None = None

    @property
    def slab(self) -> NDArray[np.float32]:
        """(3, H, W) the image between its neighbours; (H, W) the image alone if they are unknown."""
        if self.neighbours is None:
            return self.image
        before, after = self.neighbours
        return np.stack([before, self.image, after])
