"""What ships beside LiteMedSAM on a cart's processor: end to end, by stage, start-up, memory, throughput.

python benchmarks/cart.py [--data busi.h5 ...] [--threads 2] [--rounds 30] [-o docs/results/cart.md]

Each in a process of its own, one measured at a time, round by round, so that a busy machine hurts all
alike. A 640 x 480 frame in memory, a box, to a mask of 640 x 480. With --data the 8-bit bundles are made
and measured too. Bundles are kept in runs/cart. LiteMedSAM: its published weights in our form of its
network, which gives its outputs. Before each round: how near to each other the cores are, see
`benchmarks/cores.py`.
"""

import argparse
import datetime
import importlib.util
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from cores import handover_ns
from encoders import gigaflops

from samling.data.intensity import to_model
from samling.data.phantom import phantom
from samling.data.readers.plane import read_any
from samling.errors import InputError
from samling.inference.bundle import read_bundle
from samling.inference.onnx_backend import OnnxBackend, Runtime
from samling.inference.overlay import write_png
from samling.inference.regions import box_around
from samling.inference.segmenter import Segmenter
from samling.inference.torch_backend import TorchBackend
from samling.prompts.frame import Frame
from samling.prompts.prompt import Prompt
from samling.prompts.sampling import tight_box
from samling.recipes.build import load_torch
from samling.recipes.export import export

HEIGHT, WIDTH = 480, 640
STAGES = (
    "read PNG",
    "resize",
    "encode",
    "decode mask",
    "upsample and cut",
    "end to end",
    "further prompt",
)
CHILD = """
import sys, time
started = float(sys.argv[1])
import numpy, samling
model = samling.load(sys.argv[2], None if sys.argv[3] == "torch" else sys.argv[3])
frame = numpy.load(sys.argv[4])
box = [[200, 150, 440, 330]]
model.predict(frame, boxes=box)
first = time.time() - started
count, until = 0, time.time() + float(sys.argv[5])
while time.time() < until:
    frame[0, 0] = count % 256  # another image: nothing is remembered
    model.predict(frame, boxes=box)
    count += 1
# of this program alone: ru_maxrss would count the parent it was forked from
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(first, int(peak.split()[1]) / 1024, count / float(sys.argv[5]))
"""


BY_HAND = "<!-- by hand from here on: a new run leaves it as it is -->"
NEAR = 1.35
"""A round's hand-over counts as short if it took at most so many times the shortest one of the run."""
SLOW_ROUNDS = 8
"""As many of LiteMedSAM in PyTorch, which needs seconds for each; two are warming up."""


@dataclass
class Contender:
    """A model on a runtime, the process that runs it, and what was measured."""

    name: str
    model: str
    runtime: Runtime | None
    link: Connection
    ms: dict[str, list[float]]

    def median(self, stage: str) -> float:
        """Milliseconds."""
        return statistics.median(self.ms[stage])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--folder", type=Path, default=Path("runs/cart"))
    parser.add_argument("--out", "-o", type=Path)
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(given.threads)  # of the processes to come
    torch.set_num_threads(given.threads)  # of this one, which measures the floors
    picture = phantom(0, (HEIGHT, WIDTH))
    assert picture.labels is not None
    corners = tight_box(picture.labels > 0)
    png = given.folder / "frame.png"
    write_png(png, picture.image.astype(np.uint8))
    asked = (png, np.array(corners, float))
    contenders = made(given.folder, given.data, asked)
    handovers = measured(contenders, given.rounds)
    parts = (
        lambda: head(given.threads, given.rounds),
        lambda: speed(contenders),
        lambda: nearness(contenders, handovers),
        lambda: floors(contenders),
        lambda: processes(contenders, given.folder, picture.image),
    )
    lines: list[str] = []
    for part in parts:
        found = part()
        print("\n".join(found), flush=True)
        lines += found
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        old = given.out.read_text("utf-8") if given.out.exists() else ""
        given.out.write_text("\n".join([*lines, BY_HAND + old.partition(BY_HAND)[2]]), "utf-8")


def made(folder: Path, stores: list[Path], asked: tuple[Path, np.ndarray]) -> list[Contender]:
    """Every contender that this machine can run."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {"base": "base", "base-tiny": "base-tiny", "litemedsam": "LiteMedSAM"}
    found = []
    runtimes: list[Runtime] = ["onnxruntime"]
    runtimes += ["openvino"] if importlib.util.find_spec("openvino") else []
    for model, title in names.items():
        bundle = folder / f"{model}.bundle"
        try:
            if not bundle.exists():
                export(model, bundle)
            load_torch(model)  # LiteMedSAM: are its weights here, too?
        except InputError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        found.append(started(f"{title}, PyTorch", model, None, asked))
        found += [started(f"{title}, {r}", str(bundle), r, asked) for r in runtimes]
    for runtime in runtimes if stores else []:
        format = "onnx-int8" if runtime == "onnxruntime" else "openvino-int8"
        small = folder / f"base-{format}.bundle"
        if not small.exists():
            export("base", small, format, stores, report=print)
        found.append(started(f"base 8 bits, {runtime}", str(small), runtime, asked))
    return found


def started(
    name: str, model: str, runtime: Runtime | None, asked: tuple[Path, np.ndarray]
) -> Contender:
    """A contender whose process has loaded its model and waits; runtime None: PyTorch."""
    spawn = get_context("spawn")
    here, there = spawn.Pipe()
    spawn.Process(target=serve, args=(model, runtime, asked, there), daemon=True).start()
    there.close()  # the other end is the process's alone: if it dies, this one does not wait
    here.recv()
    return Contender(name, model, runtime, here, empty())


def serve(
    model: str, runtime: Runtime | None, asked: tuple[Path, np.ndarray], link: Connection
) -> None:
    """What a contender's process does: measure once, whenever it is told to."""
    threads = int(os.environ["OMP_NUM_THREADS"])
    torch.set_num_threads(threads)
    if runtime is None:
        promptable, card = load_torch(model)
        segmenter = Segmenter(TorchBackend(promptable), card)
    else:  # without the memory of earlier images
        content = read_bundle(model)
        segmenter = Segmenter(OnnxBackend(content, model, threads, runtime), content.card)
    link.send(None)
    with suppress(EOFError):  # until the benchmark is over
        while True:
            link.recv()
            link.send(stages(segmenter, asked[0], Prompt(box=asked[1])))


def measured(contenders: list[Contender], rounds: int) -> list[float]:
    """Fill in their milliseconds; the hand-over before each round, in ns (nan on one core)."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    handovers = []
    for number in range(rounds + 2):
        handover = handover_ns(cores[0], cores[1]) if len(cores) == 2 else math.nan
        for one in contenders:
            if one.model != "litemedsam" or one.runtime or number < SLOW_ROUNDS:
                one.link.send(None)
                for stage, value in one.link.recv().items():
                    one.ms[stage] += [value] if number >= 2 else []
        handovers += [handover] if number >= 2 else []
    return handovers


def empty() -> dict[str, list[float]]:
    """No measurements yet."""
    return {stage: [] for stage in STAGES}


def stages(model: Segmenter, png: Path, prompt: Prompt) -> dict[str, float]:
    """Milliseconds of every stage, once."""
    card, clock = model.card, time.perf_counter
    marks = [clock()]
    image = read_any(png).pixels
    marks.append(clock())
    frame = Frame(*image.shape, card.input_size, card.fit)
    square = to_model(image, frame, card.intensity_steps)
    marks.append(clock())
    encoding = model.backend.encode(square)
    marks.append(clock())
    coords, labels = prompt.tokens(frame, card.token_padding)
    low, _ = model.backend.decode(encoding, coords[None], labels[None])
    marks.append(clock())
    box_around(model.cut(frame.logits_to_original(low)[0], prompt))
    marks.append(clock())
    encoded = model.encode(image)
    marks.append(clock())
    model.segment_encoded(encoded, [prompt])
    marks.append(clock())
    model.segment(image, [prompt])
    marks.append(clock())
    ms = [1000 * (b - a) for a, b in itertools.pairwise(marks)]
    return dict(zip(STAGES, [*ms[:5], ms[7], ms[6]], strict=True))


def head(threads: int, rounds: int) -> list[str]:
    """What was measured, and how busy the machine was."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return [
        "# On the cart", "",
        f"Written by `benchmarks/cart.py` on {datetime.date.today()}: {threads} threads, median of "
        f"{rounds} interleaved rounds (LiteMedSAM in PyTorch: {SLOW_ROUNDS - 2}), {cpu()}.", "",
        f"The machine is shared: its load was {load} over the last 1, 5 and 15 minutes (idle: up to "
        f"{threads}). Milliseconds are upper bounds.", "",
    ]  # fmt: skip


def cpu() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "?")


def speed(contenders: list[Contender]) -> list[str]:
    """Stages and end to end; how many times faster than LiteMedSAM on the same runtime and in PyTorch."""
    slow = {c.runtime: c for c in contenders if c.name.startswith("LiteMedSAM")}
    lines = ["## Milliseconds from frame to mask", "",
             "| | " + " | ".join(STAGES) + " | p95 | × same runtime | × PyTorch |",
             "| --- |" + " --- |" * (len(STAGES) + 3)]  # fmt: skip
    for one in contenders:
        total = one.median("end to end")
        ratios = [
            f"{slow[key].median('end to end') / total:.1f}" if key in slow else "–"
            for key in (one.runtime, None)
        ]
        cells = [f"{one.median(stage):.1f}" for stage in STAGES]
        cells.append(f"{np.percentile(one.ms['end to end'], 95):.1f}")
        lines.append(f"| {one.name} | {' | '.join([*cells, *ratios])} |")
    return [*lines, ""]


def nearness(contenders: list[Contender], handovers: list[float]) -> list[str]:
    """End to end in rounds where one core soon saw what the other wrote, and in the others."""
    known = [value for value in handovers if not math.isnan(value)]  # none on one core
    if not known:
        return []
    short = [value <= NEAR * min(known) for value in handovers]
    said = (
        f"Seeing what the other core wrote took {min(known):.0f} to {max(known):.0f} ns (Python's "
        f"own share included); {sum(short)} of {len(short)} rounds were near to the shortest. Whether that "
        "one is short for this processor, `benchmarks/cores.py` tells."
    )
    lines = ["## How soon one core sees what the other wrote", "", said, "",
             "| end to end, ms | shortest (rounds) | longer (rounds) |", "| --- | --- | --- |"]  # fmt: skip
    for one in contenders:
        rows = list(zip(one.ms["end to end"], short, strict=False))
        parts = [[ms for ms, is_short in rows if is_short == wanted] for wanted in (True, False)]
        cells = [f"{statistics.median(part):.1f} ({len(part)})" if part else "–" for part in parts]
        lines.append(f"| {one.name} | {' | '.join(cells)} |")
    return [*lines, ""]


def floors(contenders: list[Contender]) -> list[str]:
    """Operations over the measured peak of this machine."""
    lines = ["## Floors", "", "Operations of the encoder over the best rate of a 1024³ matrix product "
             "measured in the same run.", "", "| | GFLOPs | floor fp32 ms | floor bf16 ms |",
             "| --- | --- | --- | --- |"]  # fmt: skip
    rates = {kind: peak(kind) for kind in (torch.float32, torch.bfloat16)}
    for one in contenders:
        if one.runtime is None:
            model, card = load_torch(one.model)
            work = gigaflops(model, torch.rand(1, 1, card.input_size, card.input_size))
            cells = " | ".join(f"{1000 * work / rate:.1f}" for rate in rates.values())
            lines.append(f"| {one.name.partition(',')[0]} | {work:.2f} | {cells} |")
    said = ", ".join(f"{str(kind)[6:]} {rate:.0f}" for kind, rate in rates.items())
    return [*lines, "", f"Peak in GFLOP/s: {said}.", ""]


def peak(kind: torch.dtype) -> float:
    """GFLOP/s of the fastest of 20 matrix products."""
    a, b = (torch.rand(1024, 1024).to(kind) for _ in range(2))
    best = float("inf")
    for _ in range(20):
        started = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - started)
    return 2 * 1024**3 / best / 1e9


def processes(contenders: list[Contender], folder: Path, image: np.ndarray) -> list[str]:
    """Start-up, memory and throughput, each in processes of its own."""
    np.save(folder / "frame.npy", image)
    lines = ["## Processes", "",
             "Start-up: from starting Python to the first mask, the first and the second time. Memory: the "
             "largest resident size. Throughput with one thread a process, frames all different.", "",
             "| | start-up s | again s | memory MB | bundle MB | frames/s, 1 process | 2 processes |",
             "| --- |" + " --- |" * 6]  # fmt: skip
    for one in contenders:
        if one.model == "litemedsam":
            continue
        (cold, _, _), (warm, memory, _) = child(one, folder, 0)[0], child(one, folder, 0)[0]
        single = child(one, folder, 4, threads=1)[0][2]
        double = sum(row[2] for row in child(one, folder, 4, threads=1, count=2))
        path = Path(one.model)
        files = [file.stat().st_size for file in path.glob("*")] if path.is_dir() else []
        size = f"{sum(files) / 1e6:.1f}" if files else "–"
        lines.append(f"| {one.name} | {cold:.2f} | {warm:.2f} | {memory:.0f} | {size} | {single:.1f} "
                     f"| {double:.1f} |")  # fmt: skip
    return [*lines, ""]


def child(
    one: Contender, folder: Path, seconds: float, threads: int | None = None, count: int = 1
) -> list[tuple[float, float, float]]:
    """Seconds to the first mask, MB and frames per second of `count` processes at once."""
    environment = dict(os.environ) | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    arguments = [
        one.model,
        one.runtime or "torch",
        str(folder / "frame.npy"),
        str(max(seconds, 1e-9)),
    ]
    running = [
        subprocess.Popen([sys.executable, "-c", CHILD, str(time.time()), *arguments],
                         stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(count)
    ]  # fmt: skip
    return [tuple(json.loads(f"[{run.communicate()[0].replace(' ', ',')}]")) for run in running]


if __name__ == "__main__":
    main()
