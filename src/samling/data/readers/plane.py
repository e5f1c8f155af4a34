"""ImagePlane: what every reader returns, and the one function that picks the reader by content."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samling.data.case import Modality
from samling.data.readers.bounds import kind_of, read_head
from samling.errors import InputError

CT_OFFSET = 1024
"""Keeps stored Hounsfield units from being negative: air is 24."""


@dataclass(frozen=True)
class ImagePlane:
    """One grey plane as stored.

    Args:
        pixels: (H, W) uint8 or uint16.
        spacing_mm: (row, column) distance of neighbouring pixels; None if the file does not say.
        modality: what the file says it is.
        notes: what was converted on the way, in words ("colour turned to grey").
        frames: planes that the file holds; more than 1 for a cine loop.
        patient: whose picture it is, as a hash, so that no name gets out; None if not said.
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    spacing_mm: tuple[float, float] | None = None
    modality: Modality = "unknown"
    notes: tuple[str, ...] = ()
    frames: int = 1
    patient: str | None = None
    hounsfield: bool = False
    """`pixels` are Hounsfield units + `CT_OFFSET`."""

    @property
    def values(self) -> NDArray[np.generic]:
        """(H, W) the pixels; Hounsfield units themselves where they are known."""
        return self.pixels.astype(np.int32) - CT_OFFSET if self.hounsfield else self.pixels


def read_any(path: str | Path, frame: int = 0) -> ImagePlane:
    """Read a PNG, JPEG, TIFF, BMP or DICOM file, whatever its name; `frame` is for cine loops.

    Raises:
        InputError: missing, damaged, too large, or none of these formats.
    """
    path = Path(path)
    kind = kind_of(read_head(path))
    if kind == "DICOM":
        from samling.data.readers.dicom import read_dicom  # pydicom takes 0.2 s to import

        return read_dicom(path, frame)
    if kind is None:
        raise InputError(
            path, "is no PNG, JPEG, TIFF, BMP or DICOM file", "check that it is an image"
        )
    from samling.data.readers.image import read_image

    pixels, notes = read_image(path)
    return ImagePlane(pixels, notes=notes)
