"""Intensity: from stored values to what a network sees."""

import numpy as np
from numpy.typing import NDArray

from samling.prompts.frame import Frame


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


def to_model(image: NDArray[np.generic], frame: Frame, padding: float = 0.0) -> NDArray[np.float32]:
    """(H, W) stored values -> (size, size) in [0, 1]: resize, min-max, then `padding`.

    The order is LiteMedSAM's. The network repeats the plane to three channels itself.
    """
    plane = min_max(frame.image_to_model(image.astype(np.float32)))
    return frame.pad(plane, padding).astype(np.float32)
