"""What a training step of each network costs, with a pixel's channels side by side in memory or not.

python benchmarks/networks.py [--size 128] [--threads 1]

Forward and backward pass of a batch of 8 in the precision that `train` would choose. Each network, of its
usual width, takes turns with itself in the other memory format; the ratio is what `registry` goes by.
"""

import argparse
import statistics
import time

import torch
from torch import Tensor, nn

from samling.models.networks.registry import NETWORKS
from samling.training.loop import best_precision, precision

ROUNDS = 5


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind = best_precision(device)
    print(f"{device.type}, {kind}, {given.size} px, {given.threads} threads, seconds a step of 8\n")
    print("| | by plane | by pixel | ratio |\n| --- | --- | --- | --- |")
    x = torch.randn(8, 2, given.size, given.size, device=device)
    for name, (make, width) in NETWORKS.items():
        formats = (torch.contiguous_format, torch.channels_last)
        pair = [make(2, width, given.size).to(device, memory_format=f) for f in formats]
        by_plane, by_pixel = timed(pair, x, kind)
        ratio = by_plane / by_pixel
        print(f"| {name} | {by_plane:.3f} | {by_pixel:.3f} | {ratio:.2f} |", flush=True)


def timed(pair: list[nn.Module], x: Tensor, kind: str) -> list[float]:
    """Median seconds of a step of each network, in turns."""
    seconds: list[list[float]] = [[] for _ in pair]
    for network in pair:
        step(network, x, kind)
    for _ in range(ROUNDS):
        for network, found in zip(pair, seconds, strict=True):
            started = time.perf_counter()
            step(network, x, kind)
            found.append(time.perf_counter() - started)
    return [statistics.median(found) for found in seconds]


def step(network: nn.Module, x: Tensor, kind: str) -> None:
    """Forward and backward."""
    with precision(kind, x.device):
        y = network(x)
    y.float().square().mean().backward()
    if x.is_cuda:
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
