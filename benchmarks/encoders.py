"""Image encoders beside LiteMedSAM's: GFLOPs, weights, and milliseconds per image in one process.

python benchmarks/encoders.py [--threads 2] [--rounds 15]

Random weights: speed does not depend on them. PyTorch in inference mode, float32, batch norms folded, and
ONNX Runtime on the exported graph. Rounds of all encoders are interleaved, so that a busy machine hurts
all alike; the median counts. Ratio: how many times faster than `full`.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch.utils.flop_counter import FlopCounterMode

from samling.export.onnx import encoder_graph
from samling.inference.onnx_backend import session_options
from samling.models.architectures import ARCHITECTURES
from samling.models.sam import Sam
from samling.models.tiny_vit import SHAPES, fold_norms

SIDE = 256
ENCODERS = {name: SIDE for name in SHAPES if name in ARCHITECTURES}
ENCODERS |= {"hiera-mini": SIDE, "mobilesam": 1024, "efficientsam-ti": 1024, "sam2-hiera-t": 1024}
"""Name of the architecture -> side of its square in pixels, as published."""


def main() -> None:
    """Measure and print a table."""
    import onnxruntime as ort

    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch_runs: dict[str, Callable[[], object]] = {}
    onnx_runs: dict[str, Callable[[], object]] = {}
    facts: dict[str, tuple[float, int]] = {}
    for name, side in ENCODERS.items():
        model, image = Sam(name, side).eval(), torch.rand(1, 1, side, side)
        facts[name] = (gigaflops(model, image), sum(p.numel() for p in model.parameters()))
        fold_norms(model)
        torch_runs[name] = partial(model.encode, image)
        session = ort.InferenceSession(
            encoder_graph(model, presence=True), session_options(given.threads)
        )
        onnx_runs[name] = partial(session.run, None, {"image": image.numpy()})
    with torch.inference_mode():
        slow, fast = measure(torch_runs, given.rounds), measure(onnx_runs, given.rounds)
    print(f"{given.threads} threads, median of {given.rounds} interleaved rounds\n")
    print(
        "| encoder | px | weights, whole model | GFLOPs | PyTorch ms | ratio | ONNX Runtime ms | ratio |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, (flops, weights) in facts.items():
        cells = [f"{t[name]:.1f} | {t['full'] / t[name]:.1f}" for t in (slow, fast)]
        print(
            f"| {name} | {ENCODERS[name]} | {weights / 1e6:.2f} M | {flops:.2f} | {' | '.join(cells)} |"
        )


def gigaflops(model: Sam, image: torch.Tensor) -> float:
    """Two per multiply-accumulate, attention included."""
    # With gradients attention is written out as matrix products, which the counter sees
    with FlopCounterMode(display=False) as counter:
        model.encode(image)
    return counter.get_total_flops() / 1e9


def measure(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each, after two rounds to warm up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 2):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if number >= 2:
                times[name].append(1000 * (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in times.items()}


if __name__ == "__main__":
    main()
