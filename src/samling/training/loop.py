"""fit: the one training loop. Epochs of steps, validation, best weights, checkpoints, resume."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from samling.errors import InputError
from samling.training.checkpoint import read_checkpoint, save_checkpoint
from samling.training.distributed import average_gradients
from samling.training.log import MetricsLog

State = dict[str, Tensor]
Terms = dict[str, Tensor]


@dataclass
class Task:
    """What is trained: the loop asks for batches, losses, scores and weights, and knows no more.

    Args:
        epoch_steps: epoch -> its steps, each a function that returns the named loss terms, `total`
            among them. Must depend on the epoch alone, so that a resumed run sees the same batches.
        validate: -> named scores, `score` among them: higher is better.
        state: the weights to checkpoint.
        load_state: puts such weights back.
        save_best: called whenever `score` is the best so far.
        parameters: what the optimiser changes.
    """

    epoch_steps: Callable[[int], Iterator[Callable[[], tuple[Terms, int]]]]
    validate: Callable[[], dict[str, float]]
    state: Callable[[], State]
    load_state: Callable[[State], None]
    save_best: Callable[[], None]
    parameters: list[torch.nn.Parameter]


@dataclass(frozen=True)
class Fitted:
    """What `fit` comes to.

    Args:
        rows: of metrics.jsonl.
        learned: False if the weights as they were before training are the best ones.
    """

    rows: list[dict[str, Any]]
    learned: bool


@dataclass(frozen=True)
class Schedule:
    """Learning rate over the run: linear warm-up, then constant or cosine to a hundredth."""

    rate: float
    total_steps: int
    warmup_steps: int = 0
    cosine: bool = False

    def at(self, step: int) -> float:
        """Learning rate of the step with this number, from 0."""
        if step < self.warmup_steps:
            return self.rate * (step + 1) / (self.warmup_steps + 1)
        if not self.cosine:
            return self.rate
        done = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        cosine = torch.cos(torch.tensor(torch.pi * min(done, 1.0))).item()
        return self.rate * (0.01 + 0.99 * 0.5 * (1 + cosine))


def fit(
    task: Task,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    folder: Path,
    *,
    epochs: int,
    progress: Callable[[str], None],
    clip: float,
    compete: bool = False,
) -> Fitted:
    """Train for `epochs`, resuming from `folder`/checkpoint.pt if it is there.

    A checkpoint is written after every epoch. Because every random draw is a function of seed,
    epoch and step, a run that was killed and resumed ends with the weights of an uninterrupted one.

    Args:
        compete: the weights as they are before training may be the best ones, too.
    """
    path = folder / "checkpoint.pt"
    saved = _begin(task, optimizer, path, compete, progress)
    log = MetricsLog(folder, saved["epoch"])
    say = _Pace(schedule.total_steps, progress)
    step, best, start = saved["step"], saved["best"], saved.get("start")
    for epoch in range(saved["epoch"] + 1, epochs + 1):
        started = time.perf_counter()
        means, images, step = _train_epoch(task, optimizer, schedule, epoch, step, clip, say)
        row = _row(epoch, step, images, time.perf_counter() - started)
        scores = task.validate()
        if scores["score"] > best:
            best = scores["score"]
            task.save_best()
        row |= {"train": means, "val": scores, "best": best}
        # The checkpoint last: what a kill leaves too much is cut off or written again when resuming
        log.add(row)
        known = {"epoch": epoch, "step": step, "best": best, "start": start}
        states = {"state": task.state(), "optimizer": optimizer.state_dict()}
        save_checkpoint(path, known | states)
        left = (time.perf_counter() - started) * (epochs - epoch)
        progress(
            f"epoch {epoch}/{epochs}: loss {means['total']:.4f}, {_listed(scores)}, "
            f"{row['images_per_second']:.1f} images/s, {left / 60:.0f} min left"
        )
    learned = start is None or best > start
    if not learned:
        progress("no epoch was better on validation than the start: its weights are kept")
    return Fitted(log.rows, learned)


def _row(epoch: int, step: int, images: int, seconds: float) -> dict[str, Any]:
    speed, memory = round(images / max(seconds, 1e-9), 2), peak_memory_mb()
    row = {"epoch": epoch, "step": step, "seconds": round(seconds, 2)}
    return row | {"images_per_second": speed, "peak_memory_mb": memory}


def _begin(
    task: Task,
    optimizer: torch.optim.Optimizer,
    path: Path,
    compete: bool,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """The checkpoint, put back, or what one before the first epoch would hold."""
    if saved := read_checkpoint(path):
        task.load_state(saved["state"])
        optimizer.load_state_dict(saved["optimizer"])
        progress(f"resumed after epoch {saved['epoch']}")
        return saved
    if not compete:
        return {"epoch": 0, "step": 0, "best": float("-inf")}
    scores = task.validate()
    task.save_best()
    progress(f"before training: {_listed(scores)}")
    return {"epoch": 0, "step": 0, "best": scores["score"], "start": scores["score"]}


def _listed(scores: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.4f}" for name, value in scores.items())


def _train_epoch(
    task: Task,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    epoch: int,
    step: int,
    clip: float,
    say: "_Pace",
) -> tuple[dict[str, float], int, int]:
    """One epoch -> means of the loss terms, number of images, number of the next step.

    A term's mean is over the batches that have it.
    """
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    images, started, first = 0, time.perf_counter(), step
    for run_step in task.epoch_steps(epoch):
        for group in optimizer.param_groups:
            group["lr"] = schedule.at(step)
        optimizer.zero_grad(set_to_none=True)
        terms, count = run_step()
        terms["total"].backward()
        average_gradients(task.parameters)
        norm = torch.nn.utils.clip_grad_norm_(task.parameters, clip)
        if not torch.isfinite(norm):
            where = f"epoch {epoch}, step {step}"
            raise InputError(where, "the gradient is not finite", "lower the learning rate")
        optimizer.step()
        step, images = step + 1, images + count
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + value.item() * count
            counts[name] = counts.get(name, 0) + count
        say(epoch, step, step - first, images, time.perf_counter() - started)
    return {name: total / counts[name] for name, total in sums.items()}, images, step


class _Pace:
    """Says how far the training is: two seconds after it began, then every thirty."""

    def __init__(self, total_steps: int, progress: Callable[[str], None]) -> None:
        self.total, self.progress = total_steps, progress
        self.due = time.perf_counter() + 2

    def __call__(self, epoch: int, step: int, done: int, images: int, seconds: float) -> None:
        """After `done` steps, with `images` images and `seconds` seconds, of this epoch."""
        if (now := time.perf_counter()) < self.due:
            return
        self.due = now + 30
        left = max(self.total - step, 0) * seconds / done
        self.progress(
            f"epoch {epoch}: step {step} of {self.total}, {images / seconds:.1f} images/s, "
            f"{left / 60:.0f} min left"
        )


def peak_memory_mb() -> int | None:
    """Most memory this process has held so far: on the GPU if there is one, else resident; or unknown."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 1e6)
    try:
        import resource
    except ImportError:  # Windows has none
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


@contextmanager
def precision(kind: str, device: torch.device) -> Iterator[None]:
    """Autocast to bfloat16 for `bf16`, nothing for `fp32`."""
    with torch.autocast(device.type, torch.bfloat16, enabled=kind == "bf16"):
        yield


def best_precision(device: torch.device) -> str:
    """`bf16` where the hardware multiplies bfloat16 faster than float32, else `fp32`."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    capabilities = torch.backends.cpu.get_cpu_capability()
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if capabilities == "AVX512" and supported() else "fp32"
