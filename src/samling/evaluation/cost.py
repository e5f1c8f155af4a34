"""Cost of a method: weights, and time per image on this machine, cold and warm."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samling.evaluation.protocols import Asked, E
from samling.inference.card import Card
from samling.prompts.prompt import Prompt

WARM_RUNS = 5


@dataclass(frozen=True)
class Cost:
    """What one image with one prompt takes.

    Args:
        parameters: number of weights; None where nobody can count them (ONNX), 0 without a model.
        cold_ms: the first image, encoded and decoded.
        encode_ms, decode_ms: medians of the following ones.
        p95_ms: 95th percentile of both together.
        images: how many were timed after the first.
    """

    parameters: int | None
    cold_ms: float
    encode_ms: float
    decode_ms: float
    p95_ms: float
    images: int

    @property
    def ms(self) -> float:
        """Median of an image with one prompt, warm."""
        return self.encode_ms + self.decode_ms


def measure_cost(
    segmenter: Asked[E], images: Sequence[NDArray[np.float32]], parameters: int | None
) -> Cost:
    """Time a segmenter on images (H, W), taken in turn; at least one is needed.

    The prompt is a box over the middle half, or a click in the middle, or none, whatever the model
    takes first. Other work on the machine makes times longer: they are upper bounds.
    """
    times = [_timed(segmenter, images[i % len(images)]) for i in range(WARM_RUNS + 1)]
    cold, warm = times[0], 1000 * np.array(times[1:])
    return Cost(
        parameters=parameters,
        cold_ms=1000 * sum(cold),
        encode_ms=float(np.median(warm[:, 0])),
        decode_ms=float(np.median(warm[:, 1])),
        p95_ms=float(np.percentile(warm.sum(axis=1), 95)),
        images=len(warm),
    )


def _timed(segmenter: Asked[E], image: NDArray[np.float32]) -> tuple[float, float]:
    prompt = _prompt(segmenter.card, *image.shape[:2])
    started = time.perf_counter()
    encoded = segmenter.encode(image)
    between = time.perf_counter()
    segmenter.segment_encoded(encoded, [prompt])
    return between - started, time.perf_counter() - between


def _prompt(card: Card, height: int, width: int) -> Prompt:
    if "box" in card.prompts:
        return Prompt(box=np.array([width / 4, height / 4, 3 * width / 4, 3 * height / 4]))
    if "points" in card.prompts:
        return Prompt(points=np.array([[width / 2, height / 2]]), point_labels=np.array([1]))
    return Prompt()
