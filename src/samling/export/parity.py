"""Parity: does the exported model give the masks of the original? Else no bundle is kept."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.examples import get_path

from samling.data.phantom import phantom
from samling.data.readers.dicom import read_dicom
from samling.errors import InputError
from samling.inference.segmenter import EncodedImage, Segmenter
from samling.prompts.prompt import Prompt

LEAST_IOU = 0.999
MOST_PRESENCE_DIFFERENCE = 0.001
_SIZES = ((240, 320), (333, 250), (128, 512))
_REAL = ("jpeg2k", "rgb_color")
"""Ultrasound frames that come with pydicom, by their names there."""


@dataclass(frozen=True)
class Parity:
    """How far two forms of one model differ.

    Args:
        masks: how many masks were compared.
        least_iou: lowest IoU of a pair of masks at the image's own size; two empty masks agree.
        logit_difference: largest absolute difference of two low-resolution logits.
        presence_difference: largest absolute difference of two presence probabilities.
    """

    masks: int
    least_iou: float
    logit_difference: float
    presence_difference: float

    def __str__(self) -> str:
        return (
            f"{self.masks} masks compared with the original: lowest IoU {self.least_iou:.4f}, "
            f"largest difference of logits {self.logit_difference:.1e}, "
            f"of presence {self.presence_difference:.1e}"
        )

    def require(self, where: str) -> None:
        """Refuse a form that is not the same model.

        Raises:
            InputError: below `LEAST_IOU`, or the presence differs.
        """
        alike = self.least_iou >= LEAST_IOU  # false for NaN
        if alike and self.presence_difference <= MOST_PRESENCE_DIFFERENCE:
            return
        problem = f"the exported model is not the same: {self}; at least {LEAST_IOU} is asked"
        raise InputError(
            where, problem, "nothing was written; please report this with the versions"
        )


def compare(
    original: Segmenter, exported: Segmenter, images: Sequence[NDArray[np.generic]] | None = None
) -> Parity:
    """Run both on every image with every kind of prompt that the card names.

    Args:
        images: (H, W) each; None: three phantoms of different shapes, and two real images.
    """
    if images is None:
        images = [phantom(seed, size).image for seed, size in enumerate(_SIZES)]
        images += [read_dicom(get_path(name)).pixels for name in _REAL]
    ious: list[float] = []
    logit_differences = [0.0]
    presence_differences = [0.0]
    # Without automatic mode the presence is left out of the bundle
    answers = range(original.card.answers if "automatic" in original.card.prompts else 0)
    for image in images:
        seen, seen_too = original.encode(image), exported.encode(image)
        presence_differences += [
            abs((seen.presence_of(k) or 0.0) - (seen_too.presence_of(k) or 0.0)) for k in answers
        ]
        for prompts in _trials(original, seen):
            low, _ = original.decode_square(seen, prompts)
            low_too, _ = exported.decode_square(seen_too, prompts)
            logit_differences.append(float(np.abs(low - low_too).max()))
            ious += _mask_ious(original, seen, low, low_too)
    return Parity(len(ious), float(np.min(ious)), max(logit_differences), max(presence_differences))


def _trials(model: Segmenter, seen: EncodedImage) -> list[list[Prompt]]:
    """Calls to compare: one object and several, one token and many, as the card allows."""
    size = np.array([seen.frame.width, seen.frame.height], dtype=np.float64)
    boxes = [
        Prompt(box=np.concatenate([size * low, size * high]))
        for low, high in ((0.3, 0.6), (0.05, 0.35), (0.5, 0.95))
    ]
    points = size * np.array([[0.5, 0.5], [0.6, 0.4], [0.2, 0.8]])
    kinds = np.array([1, 1, 0], dtype=np.int64)
    offered = model.card.prompts
    trials: list[list[Prompt]] = []
    if "box" in offered:
        trials += [boxes[:1], boxes]
    if "points" in offered:
        single = [Prompt(points=points[i : i + 1], point_labels=kinds[i : i + 1]) for i in (0, 1)]
        trials += [single, [Prompt(points=points, point_labels=kinds)]]
    if "box" in offered and "points" in offered:
        trials.append([Prompt(box=boxes[0].box, points=points[2:], point_labels=kinds[2:])])
    if "automatic" in offered:
        trials.append([Prompt(class_index=index) for index in range(model.card.answers)])
    if "mask" in offered and trials:
        earlier, _ = model.decode_square(seen, trials[0][:1])
        first = trials[0][0]
        trials.append([Prompt(first.box, first.points, first.point_labels, earlier[0])])
    return trials


def _mask_ious(
    model: Segmenter, seen: EncodedImage, low: NDArray[np.float32], other: NDArray[np.float32]
) -> list[float]:
    threshold = model.card.mask_threshold
    ours = seen.frame.logits_to_original(low) > threshold
    theirs = seen.frame.logits_to_original(other) > threshold
    return [
        _iou(mask, mask_too) if np.isfinite(plane).all() else float("nan")
        for mask, mask_too, plane in zip(ours, theirs, other, strict=True)
    ]


def _iou(mask: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    union = np.count_nonzero(mask | other)
    return np.count_nonzero(mask & other) / union if union else 1.0
