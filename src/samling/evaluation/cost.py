"""Cost of a method: weights, and time per image on this machine, cold and warm."""

import ctypes
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samling.evaluation.protocols import Asked, E
from samling.inference.card import Card
from samling.prompts.prompt import Prompt

WARM_RUNS = 20
POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows the energy counters (RAPL) of processors; often readable by the administrator alone."""


@dataclass(frozen=True)
class Cost:
    """What one image with one prompt takes.

    Args:
        parameters: number of weights; None where nobody can count them (ONNX), 0 without a model.
        cold_ms: the first image, encoded and decoded.
        encode_ms, decode_ms: medians of the following ones.
        p95_ms: 95th percentile of both together.
        images: how many were timed after the first.
        trained: weights that training changed; None if it is not known.
        macs: multiply-adds of one image with one prompt; None where nobody can count them.
        memory_mb: most memory above what was held before, of the GPU if it runs there; None where the
            system does not tell.
        file_mb: size of what must be stored for it, without a base that it shares.
        joules: energy of the processors per warm image, with all else they did; None where the machine
            does not tell.
    """

    parameters: int | None
    cold_ms: float
    encode_ms: float
    decode_ms: float
    p95_ms: float
    images: int
    trained: int | None = None
    macs: float | None = None
    memory_mb: float | None = None
    file_mb: float | None = None
    joules: float | None = None

    @property
    def ms(self) -> float:
        """Median of an image with one prompt, warm."""
        return self.encode_ms + self.decode_ms


def measure_cost(
    segmenter: Asked[E], images: Sequence[NDArray[np.float32]], parameters: int | None
) -> Cost:
    """Time a segmenter on images (H, W), taken in turn, each changed a little; at least one is needed.

    The prompt is a box over the middle half, or a click in the middle, or none, whatever the model
    takes first. Other work on the machine makes times longer: they are upper bounds.
    """
    with _peak_memory(_on_gpu(segmenter)) as used:
        cold = _timed(segmenter, _anew(images, 0))
        before = joules_so_far()
        times = [_timed(segmenter, _anew(images, 1 + i)) for i in range(WARM_RUNS)]
        after, memory = joules_so_far(), used()
    warm = 1000 * np.array(times)
    joules = None
    if before is not None and after is not None and after > before:  # counters start again at times
        joules = (after - before) / WARM_RUNS
    return Cost(
        parameters=parameters,
        cold_ms=1000 * sum(cold),
        encode_ms=float(np.median(warm[:, 0])),
        decode_ms=float(np.median(warm[:, 1])),
        p95_ms=float(np.percentile(warm.sum(axis=1), 95)),
        images=len(warm),
        macs=_macs(segmenter, images[0]),
        memory_mb=memory,
        joules=joules,
    )


def joules_so_far() -> float | None:
    """What all processor packages have taken since some moment; None if the system does not say."""
    try:
        packages = [  # not `psys`, the whole machine, which holds them
            path
            for path in POWERCAP.glob("*-rapl:?")
            if (path / "name").read_text()[:7] == "package"
        ]
        told = [int((path / "energy_uj").read_text()) for path in packages]
        return sum(told) / 1e6 if told else None
    except (OSError, ValueError):
        return None


def _timed(segmenter: Asked[E], image: NDArray[np.float32]) -> tuple[float, float]:
    prompt = _prompt(segmenter.card, *image.shape[:2])
    started = time.perf_counter()
    encoded = segmenter.encode(image)
    between = time.perf_counter()
    segmenter.segment_encoded(encoded, [prompt])
    return between - started, time.perf_counter() - between


def _macs(segmenter: Asked[E], image: NDArray[np.float32]) -> float | None:
    """Multiply-adds of matrix products, convolutions and attention, by PyTorch's own counter."""
    if not hasattr(getattr(segmenter, "backend", None), "model"):
        return None
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):  # the processor's fused attention is not counted
        _timed(segmenter, image)
    return counter.get_total_flops() / 2


def _anew(images: Sequence[NDArray[np.float32]], number: int) -> NDArray[np.float32]:
    """An image that nobody has seen: a bundle remembers the last ones, and would answer at once."""
    image = images[number % len(images)].copy()
    image.flat[0] += 0.5 + number
    return image


def _on_gpu(segmenter: Asked[E]) -> bool:
    """Whether it is a PyTorch model whose weights lie there."""
    module = getattr(getattr(getattr(segmenter, "backend", None), "model", None), "module", None)
    weight = None if module is None else next(module.parameters(), None)
    return weight is not None and bool(weight.is_cuda)


@contextmanager
def _peak_memory(on_gpu: bool) -> Iterator[Callable[[], float | None]]:
    """Most memory above the start, in MB, of the GPU or of the process; Linux resets its own record."""
    if on_gpu:
        import torch

        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        yield lambda: (torch.cuda.max_memory_allocated() - held) / 1e6
        return
    before: float | None = None
    try:
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:  # what earlier work freed would hide what this one takes
            trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = _resident("VmRSS")
    except OSError:  # another system, or a container that forbids it
        pass

    def used() -> float | None:
        peak = None if before is None else _resident("VmHWM")
        return None if peak is None or before is None else max(0.0, peak - before)

    yield used


def _resident(name: str) -> float | None:
    """A line of /proc/self/status, in MB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1000
    return None


def _prompt(card: Card, height: int, width: int) -> Prompt:
    if "box" in card.prompts:
        return Prompt(box=np.array([width / 4, height / 4, 3 * width / 4, 3 * height / 4]))
    if "points" in card.prompts:
        return Prompt(points=np.array([[width / 2, height / 2]]), point_labels=np.array([1]))
    return Prompt()
