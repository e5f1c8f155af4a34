"""Intensity: from stored values to what a network sees."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from samling.errors import InputError, meant
from samling.prompts.frame import Frame

WINDOWS: dict[str, tuple[float, float]] = {
    "abdomen": (50, 400),
    "liver": (30, 150),
    "liver-contrast": (100, 250),
    "mediastinum": (50, 350),
    "lung": (-600, 1500),
    "bone": (400, 1800),
    "brain": (40, 80),
}
"""Centre and width in Hounsfield units, as radiology uses them. `liver` is for scans without contrast
agent; with it the liver reaches 130 HU, which `liver-contrast` leaves room for."""
_TILES = (8, 8)


@dataclass(frozen=True)
class Intensity:
    """What is done to values before a network sees them, in this order; None leaves a step out.

    Args:
        window: centre and width in Hounsfield units; values are clipped to it and it becomes [0, 1].
            None: the image's own minimum and maximum become [0, 1].
        clahe: clip limit of contrast-limited adaptive histogram equalisation on 8 x 8 tiles
            (Zuiderveld 1994), 1 (hardly any change) to about 4. It sees 256 grey levels, so a CT
            wants a window with it. Images under 128 px have tiles of so few pixels that limits
            below 4 are hardly told apart.
    """

    window: tuple[float, float] | None = None
    clahe: float | None = None

    @property
    def plain(self) -> bool:
        """True if there is nothing but minimum and maximum."""
        return self.window is None and self.clahe is None

    def apply(self, image: NDArray[np.generic]) -> NDArray[np.float32]:
        """(H, W) real values -> [0, 1].

        Raises:
            ValueError: the image has values that are not finite.
        """
        scaled = min_max(image) if self.window is None else windowed(image, *self.window)
        if self.clahe is None:
            return scaled
        # OpenCV counts 16-bit levels in 65,536 bins, where a tile has fewer pixels: any limit would be 1
        equalise = cv2.createCLAHE(self.clahe, _TILES)
        levels = equalise.apply(np.rint(scaled * 255).astype(np.uint8))
        return levels.astype(np.float32) / np.float32(255)


def window_of(text: str) -> tuple[float, float]:
    """A preset's name, or centre and width with a comma between.

    Raises:
        InputError: neither, or a width of zero.

    >>> window_of("lung"), window_of("40,350")
    ((-600, 1500), (40.0, 350.0))
    """
    if text in WINDOWS:
        return WINDOWS[text]
    try:
        centre, width = (float(part) for part in text.split(","))
    except ValueError:
        problem = f"'{text}' is no window"
        remedy = meant(text, WINDOWS)
        remedy = remedy or f"use {', '.join(WINDOWS)}, or CENTRE,WIDTH in Hounsfield units"
        raise InputError("window", problem, remedy) from None
    if not (0 < width < 1e5 and abs(centre) < 1e5):
        problem = f"has centre {centre:g} and width {width:g}"
        raise InputError("window", problem, "give a width above zero, in Hounsfield units")
    return centre, width


def windowed(image: NDArray[np.generic], centre: float, width: float) -> NDArray[np.float32]:
    """(H, W) Hounsfield units -> [0, 1]: `centre` - `width` / 2 and below is 0, the upper end 1.

    Raises:
        ValueError: the width is not positive, or values are not finite.
    """
    if width <= 0:
        raise ValueError(f"expected a width above zero, got {width}")
    values = (image.astype(np.float32) - np.float32(centre - width / 2)) / np.float32(width)
    if not np.isfinite(values).all():
        raise ValueError("the image has values that are not finite")
    return np.clip(values, 0, 1)


def min_max(image: NDArray[np.generic]) -> NDArray[np.float32]:
    """(H, W) any real values -> [0, 1] by the image's own minimum and maximum; a constant image -> 0.

    Constant is what differs by less than a float32 resize can: rounding is never stretched to [0, 1].

    Raises:
        ValueError: the image has values that are not finite.
    """
    values = image.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("the image has values that are not finite")
    constant = high - low <= 1e-5 * max(abs(low), abs(high))
    return np.zeros_like(values) if constant else (values - low) / (high - low)


def to_model(
    image: NDArray[np.generic],
    frame: Frame,
    intensity: Intensity | None = None,
    padding: float = 0.0,
) -> NDArray[np.float32]:
    """(H, W) stored values -> (size, size) in [0, 1], and `padding` around.

    Without further steps in LiteMedSAM's order: resize, minimum and maximum, padding. A window
    and CLAHE come before the resize, where they see the scanner's own pixels. The network repeats
    the plane to three channels itself.
    """
    if intensity is None or intensity.plain:
        plane = min_max(frame.image_to_model(image.astype(np.float32)))
    else:
        plane = frame.image_to_model(intensity.apply(image))
    return frame.pad(plane, padding).astype(np.float32)


def slab_to_model(
    slab: NDArray[np.generic],
    frame: Frame,
    intensity: Intensity | None = None,
    padding: float = 0.0,
) -> NDArray[np.float32]:
    """`to_model` of an image (H, W) -> (size, size), or slice by slice, (C, H, W) -> (C, size, size)."""
    if slab.ndim == 2:
        return to_model(slab, frame, intensity, padding)
    return np.stack([to_model(plane, frame, intensity, padding) for plane in slab])
