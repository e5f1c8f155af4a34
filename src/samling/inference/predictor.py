"""Predictor: the interface SAM's users know, `set_image` once, `predict` often."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samling.errors import InputError
from samling.inference.arrays import numbers, point_prompt
from samling.inference.segmenter import EncodedImage, Segmenter
from samling.prompts.prompt import Prompt


class Predictor:
    """Interactive prediction on one image at a time. Each call to `predict` is about one object."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter
        self._encoded: EncodedImage | None = None

    @property
    def is_image_set(self) -> bool:
        """True once `set_image` has been called."""
        return self._encoded is not None

    def set_image(self, image: ArrayLike, image_format: str = "RGB") -> None:
        """Encode an image; every later `predict` is about it.

        Args:
            image: (H, W) or (H, W, 3 | 4).
            image_format: `RGB` or `BGR`, the order of the colours.

        Raises:
            InputError: the image is unusable or the format unknown.
        """
        if image_format not in ("RGB", "BGR"):
            raise InputError("image_format", f"{image_format!r} is unknown", "use RGB or BGR")
        array = np.asarray(image)
        if image_format == "BGR" and array.ndim == 3 and array.shape[2] >= 3:
            array = array[..., 2::-1]
        self._encoded = None  # a refused image must not leave the previous one in place
        self._encoded = self.segmenter.encode(array)

    def reset_image(self) -> None:
        """Forget the image."""
        self._encoded = None

    def predict(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = False,
        return_logits: bool = False,
    ) -> tuple[NDArray[np.bool_] | NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Segment one object; without any prompt, everything the automatic mode sees, as one mask.

        Args:
            point_coords: (N, 2) x, y in pixels. point_labels: (N,) 1 inside, 0 outside.
            box: (4,) x0, y0, x1, y1 in pixels, x1 and y1 exclusive.
            mask_input: (1, 4h, 4w) `low_res` of an earlier call.
            multimask_output: accepted for SAM's sake; our models give one mask.
            return_logits: give logits instead of a boolean mask.

        Returns:
            (1, H, W) mask, (1,) predicted IoU, (1, 4h, 4w) low-resolution logits of the whole image.

        Raises:
            InputError: no image set, a prompt is unusable or of a kind the model lacks.
        """
        del multimask_output
        if self._encoded is None:
            raise InputError("predictor", "has no image", "call set_image first")
        encoded = self._encoded
        prompt = _prompt(point_coords, point_labels, box, mask_input)
        self.segmenter.check([prompt], (encoded.frame.height, encoded.frame.width))
        low, quality = self.segmenter.decode_square(encoded, [prompt])
        if self.segmenter.zooms(prompt):
            closer, rating = self.segmenter.decode_zoomed(encoded, prompt)
            logits, quality = closer[None], np.array([rating], dtype=np.float32)
        else:
            logits = encoded.frame.logits_to_original(low)
        if return_logits:
            return logits, quality, low
        if prompt.automatic:
            whole = np.zeros(logits.shape, dtype=bool)
            for found in self.segmenter.segment_encoded(encoded, [prompt]):
                whole |= found.mask
            return whole, quality, low
        return self.segmenter.cut(logits[0], prompt)[None], quality, low


def _prompt(
    points: ArrayLike | None,
    labels: ArrayLike | None,
    box: ArrayLike | None,
    mask: ArrayLike | None,
) -> Prompt:
    if points is None and labels is not None:
        raise InputError("point_labels", "came without point_coords", "give the points too")
    pointed = Prompt() if points is None else point_prompt(points, labels)
    return Prompt(
        box=None if box is None else numbers(box, "box").reshape(-1),
        points=pointed.points,
        point_labels=pointed.point_labels,
        mask=None if mask is None else _squeeze(numbers(mask, "mask_input")),
    )


def _squeeze(mask: NDArray[np.float64]) -> NDArray[np.float32]:
    plane = mask[0] if mask.ndim == 3 and len(mask) == 1 else mask
    return plane.astype(np.float32)
