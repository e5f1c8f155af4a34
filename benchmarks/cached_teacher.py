"""A step of distillation's first stage: teacher cached against teacher in the loop, same batches.

python benchmarks/cached_teacher.py [--steps 6]

Seeded noise for images: speed does not depend on them. Prints the seconds of a step, their ratio, and the
two loss curves, which differ by the 16-bit floats of the cache alone.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samling.distillation.cache import EmbeddingCache, to_grid
from samling.distillation.decoupled import embedding_terms
from samling.models.sam import Sam
from samling.training.loop import best_precision, precision

BATCH = 16
CPU = torch.device("cpu")

Planes = NDArray[np.uint8]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=6)
    steps = parser.parse_args().steps
    kind = best_precision(CPU)
    torch.manual_seed(0)
    teacher = Sam("full", automatic=False).eval()
    shape = (steps * BATCH, 256, 256)
    planes = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    @torch.no_grad()
    def encode(images: Tensor) -> Tensor:
        with precision(kind, CPU):
            return teacher.encode(images).image

    with tempfile.TemporaryDirectory() as folder:
        cache = EmbeddingCache(Path(folder), "benchmark", 16)
        started = time.perf_counter()
        cache.fill(planes, encode)
        filling = time.perf_counter() - started

        def cached(batch: Planes) -> Tensor:
            return torch.from_numpy(np.stack([cache.read(plane) for plane in batch])).float()

        def in_the_loop(batch: Planes) -> Tensor:
            parts = [to_grid(encode(tensor(plane[None])).float(), 16) for plane in batch]
            return torch.cat(parts)

        fast, ours = train(planes, cached, kind)
        slow, theirs = train(planes, in_the_loop, kind)
    print(f"batches of {BATCH}, {kind}, {torch.get_num_threads()} threads")
    print(f"filling the cache, once: {filling / len(planes):.2f} s an image")
    print(f"a step: {fast:.2f} s cached, {slow:.2f} s with the teacher; ratio {slow / fast:.1f}")
    print("loss, cached:     ", " ".join(f"{value:.4f}" for value in ours))
    print("loss, in the loop:", " ".join(f"{value:.4f}" for value in theirs))


def train(
    planes: Planes, wanted_of: Callable[[Planes], Tensor], kind: str
) -> tuple[float, list[float]]:
    """Median seconds of a step and the losses of a fresh student."""
    torch.manual_seed(1)
    student = Sam("lean").train()
    optimizer = torch.optim.AdamW(student.image_encoder.parameters(), lr=1e-3)
    losses, seconds = [], []
    for start in range(0, len(planes), BATCH):
        batch = planes[start : start + BATCH]
        started = time.perf_counter()
        wanted = wanted_of(batch)
        with precision(kind, CPU):
            embedding = student.image_encoder(tensor(batch).expand(-1, 3, -1, -1))
        total = torch.stack(list(embedding_terms(embedding.float(), wanted).values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - started)
        losses.append(total.item())
    return float(np.median(seconds)), losses


def tensor(planes: Planes) -> Tensor:
    """(B, S, S) bytes -> (B, 1, S, S) in [0, 1]."""
    return torch.from_numpy(planes).unsqueeze(1).float() / 255


if __name__ == "__main__":
    main()
