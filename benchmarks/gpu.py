"""Image encoders on a GPU: images per second eager, compiled and as a CUDA graph, and share of the peak.

python benchmarks/gpu.py [--batches 1,16,128] [--rounds 30] [--device cuda]

Random weights, bfloat16, batch norms folded. The peak is that of a 4096³ matrix product in the same run.
`--device cpu` runs the same without graphs, to see that it does; its figures are of no use.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from encoders import SIDE, gigaflops

from samling.models.sam import Sam
from samling.models.tiny_vit import fold_norms

ENCODERS = ("full", "lean", "tiny", "hiera-mini")
Run = Callable[[], object]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batches", default="1,16,128")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    given = parser.parse_args()
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no GPU here; --device cpu shows that the program runs")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    peak = teraflops(device, 4096 if device.type == "cuda" else 512, given.rounds)
    print(f"{name}, bfloat16, median of {given.rounds} rounds; peak {peak:.2f} TFLOP/s\n")
    print("| encoder | batch | way | ms a batch | images/s | share of the peak |")
    print("| --- | --- | --- | --- | --- | --- |")
    for kind in ENCODERS:
        flops = gigaflops(Sam(kind, SIDE).eval(), torch.rand(1, 1, SIDE, SIDE))
        model = Sam(kind, SIDE).eval()
        fold_norms(model)
        model = model.to(device, torch.bfloat16)
        for batch in map(int, given.batches.split(",")):
            images = torch.rand(batch, 1, SIDE, SIDE, device=device, dtype=torch.bfloat16)
            with torch.inference_mode():
                for way, run in ways(model, images):
                    ms = median_ms(run, device, given.rounds)
                    speed, share = 1000 * batch / ms, flops * batch / ms / peak
                    print(f"| {kind} | {batch} | {way} | {ms:.2f} | {speed:.0f} | {share:.1%} |")


def ways(model: Sam, images: torch.Tensor) -> Iterator[tuple[str, Run]]:
    """Eager, compiled, and, on a GPU, the eager kernels recorded once and replayed."""
    yield "eager", partial(model.encode, images)
    torch.compiler.reset()
    yield "compiled", partial(torch.compile(model.encode), images)
    if images.device.type == "cuda":
        yield "CUDA graph", recorded(model, images).replay


def recorded(model: Sam, images: torch.Tensor) -> torch.cuda.CUDAGraph:
    """The eager pass over these images as a graph; warmed up on a stream of its own, as PyTorch asks."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            model.encode(images)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model.encode(images)
    return graph


def median_ms(run: Run, device: torch.device, rounds: int) -> float:
    """Milliseconds of one call, the device's work included; three calls to warm up (and to compile)."""
    times = []
    for number in range(rounds + 3):
        started = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number >= 3:
            times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def teraflops(device: torch.device, side: int, rounds: int) -> float:
    """Of a matrix product of this side, in bfloat16."""
    one, other = (torch.rand(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / median_ms(partial(torch.mm, one, other), device, rounds) / 1e9


if __name__ == "__main__":
    main()
