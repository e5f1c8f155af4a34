"""Does a long cine loop stay flat in memory, and does a loop play at its own rate?

python scripts/cine_check.py BUNDLE LOOP.dcm [--frames 3000] [--runtime openvino]

First LOOP as it is, then its frames again and again until there are --frames; the resident memory is
looked at every 250 frames. Ends with 1 if the loop is slower than its rate or memory grows by over 20 MB
between the first look and the last.
"""

import argparse
import itertools
import os
import sys
import tempfile
import time
from pathlib import Path

from samling.data.readers.cine import open_cine
from samling.inference.cine_results import CineFolder
from samling.inference.live import LiveSegmenter
from samling.prompts.prompt import Prompt
from samling.recipes.cine import CineOptions, cine
from samling.recipes.load import load

GROWTH_MB, LOOK_EVERY = 20, 250


def main() -> None:
    """Run both checks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle")
    parser.add_argument("loop")
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--runtime", default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options = CineOptions(runtime=given.runtime)
        summary = cine(given.bundle, given.loop, Path(folder) / "once", options=options)
        print(summary, flush=True)
        slow = summary.frames / summary.seconds < (summary.rate or 0.0)
        looks = long_run(given.bundle, given.loop, given.frames, given.runtime, Path(folder))
    grown = looks[-1] - looks[0]
    print(f"memory grew by {grown:.1f} MB over {given.frames} frames")
    sys.exit(slow or grown > GROWTH_MB)


def long_run(bundle: str, loop: str, frames: int, runtime: str | None, folder: Path) -> list[float]:
    """Resident MB while a long stream runs."""
    stream = open_cine(loop)
    again = itertools.islice(itertools.cycle(list(stream.frames)), frames)
    live = LiveSegmenter(load(bundle, runtime), Prompt())
    looks: list[float] = []
    started = time.perf_counter()
    with CineFolder(folder / "long", stream.rate) as results:
        for frame in live.stream(again):
            results.add(frame)
            if frame.number % LOOK_EVERY == LOOK_EVERY - 1:
                looks.append(resident_mb())
                speed = (frame.number + 1) / (time.perf_counter() - started)
                print(
                    f"{frame.number + 1} frames: {looks[-1]:.1f} MB, {speed:.1f} frames/s",
                    flush=True,
                )
    return looks


def resident_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
