"""How far apart this machine's cores are, and what that does to two threads of one process.

python benchmarks/cores.py BUNDLE [--minutes 3]

A line every few seconds, on two cores of a machine with little else to do: what one core needs to see what
the other wrote (Python's own share included), milliseconds of the bundle's encoder with one thread and with
two, and with one thread in two processes at once. Cores that share a cache see it sooner, and a virtual
machine's cores may be moved. Two threads hand over every layer and feel it; two processes do not.
"""

import argparse
import math
import mmap
import os
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from samling.errors import InputError
from samling.inference.bundle import read_bundle
from samling.inference.onnx_backend import OnnxBackend

TURNS, ENOUGH = 20_000, 2_000
PATIENCE_NS = 2_000_000_000


def main() -> None:
    """Print until the time is over."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--minutes", type=float, default=3)
    given = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise SystemExit("one core alone: nothing to compare")
    os.sched_setaffinity(0, cores)
    try:
        one, two = (encoder(given.bundle, threads) for threads in (1, 2))
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
    beside = [worker(given.bundle, core) for core in cores]
    print("time      hand-over ns  1 thread ms  2 threads ms  2 processes ms", flush=True)
    until = time.monotonic() + 60 * given.minutes
    while time.monotonic() < until:
        row = [median_ms(one), median_ms(two), statistics.mean(together(beside))]
        figures = "".join(f"{value:14.1f}" for value in row)
        print(
            f"{time.strftime('%H:%M:%S')} {handover_ns(cores[0], cores[1]):13.0f}{figures}",
            flush=True,
        )


def handover_ns(core: int, other: int) -> float:
    """Half of the median time from writing a byte to reading the other core's answer.

    Not a number if there were too few answers in two seconds: then the cores are busy with something else.
    """
    shared = mmap.mmap(-1, mmap.PAGESIZE)
    answering = get_context("fork").Process(target=_answer, args=(shared, other), daemon=True)
    answering.start()
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    byte, took = memoryview(shared), []
    until = time.perf_counter_ns() + PATIENCE_NS
    try:
        while len(took) < TURNS and (started := time.perf_counter_ns()) < until:
            asked = 2 * len(took) % 254 + 1
            byte[0] = asked
            while byte[0] != asked + 1 and time.perf_counter_ns() < until:
                pass
            took.append(time.perf_counter_ns() - started)
    finally:
        os.sched_setaffinity(0, allowed)
        answering.kill()
        answering.join()
    return statistics.median(took) / 2 if len(took) >= ENOUGH else math.nan


def _answer(shared: mmap.mmap, core: int) -> None:
    os.sched_setaffinity(0, {core})
    byte = memoryview(shared)
    while True:  # until it is killed
        if byte[0] % 2:
            byte[0] += 1


def encoder(bundle: Path, threads: int) -> Callable[[], object]:
    """The bundle's encoder on one random image."""
    read = read_bundle(bundle)
    backend = OnnxBackend(read, bundle, threads)
    side = read.card.input_size
    plane = np.random.default_rng(0).random((side, side), dtype=np.float32)
    return lambda: backend.encode(plane)


def median_ms(call: Callable[[], object], rounds: int = 40) -> float:
    """Milliseconds."""
    took = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        took.append(time.perf_counter() - started)
    return 1000 * statistics.median(took)


def worker(bundle: Path, core: int) -> Connection:
    """A process on one core that measures whenever it is told to."""
    here, there = get_context("spawn").Pipe()
    get_context("spawn").Process(target=_measure, args=(bundle, core, there), daemon=True).start()
    there.close()  # the other end is the process's alone: if it dies, this one does not wait
    here.recv()  # ready
    return here


def _measure(bundle: Path, core: int, told: Connection) -> None:
    os.sched_setaffinity(0, {core})
    call = encoder(bundle, 1)
    call()
    told.send(None)
    with suppress(EOFError):  # until the other end is gone
        while True:
            told.recv()
            told.send(median_ms(call))


def together(workers: list[Connection]) -> list[float]:
    """Milliseconds of each, all at once."""
    for one in workers:
        one.send(None)
    return [one.recv() for one in workers]


if __name__ == "__main__":
    main()
