"""Kill `samling archive` at random, resume it, and compare with an uninterrupted run.

python scripts/archive_check.py BUNDLE IMAGES -o OUT [--count 2000] [--kills 10] [--ray]

IMAGES is a folder; its pictures are copied under new names until there are `--count`. Prints one line
for each kill and, at the end, whether the two folders hold the same bytes.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    """Run both and compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle")
    parser.add_argument("images", type=Path)
    parser.add_argument("--out", "-o", type=Path, required=True)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ray", action="store_true")
    given = parser.parse_args()
    shutil.rmtree(given.out, ignore_errors=True)
    copied(given.images, given.out / "images", given.count)
    options = ["--ray"] if given.ray else []
    started = time.perf_counter()
    subprocess.run(command(given.bundle, given.out, "whole", options), check=True)
    seconds = time.perf_counter() - started
    print(f"uninterrupted: {seconds:.1f} s, {given.count / seconds:.1f} images/s")
    rng = random.Random(given.seed)
    # By images done and not by time, so that kills fall into the work however busy the machine is
    marks = sorted(rng.sample(range(given.count - 8), given.kills))
    for number, mark in enumerate(marks, start=1):
        done = killed(command(given.bundle, given.out, "parts", options), given.out, mark, rng)
        print(f"kill {number}: {done} of {given.count} done", flush=True)
    subprocess.run(command(given.bundle, given.out, "parts", options), check=True)
    whole, parts = (hashes(given.out / name) for name in ("whole", "parts"))
    different = sorted(k for k in whole.keys() | parts.keys() if whole.get(k) != parts.get(k))
    print(f"{given.kills} kills, {len(whole)} files, {len(different)} different {different[:5]}")
    sys.exit(bool(different))


def killed(command: list[str], out: Path, mark: int, rng: random.Random) -> int:
    """Start it, kill it with all its children a moment after `mark` images are done; how many then are."""
    records = out / "parts" / "records"
    running = subprocess.Popen(command, start_new_session=True)
    while sum(1 for _ in records.rglob("*.json")) <= mark:
        if running.poll() is not None:
            sys.exit("ended before it was killed")
        time.sleep(0.05)
    time.sleep(rng.uniform(0, 0.2))
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    return sum(1 for _ in records.rglob("*.json"))


def copied(source: Path, folder: Path, count: int) -> None:
    """`count` copies of the pictures of `source`; one file under two names would be one image."""
    pictures = sorted(source.glob("*.png"))
    folder.mkdir(parents=True)
    for number in range(count):
        picture = pictures[number % len(pictures)]
        shutil.copyfile(picture, folder / f"{number:06d}_{picture.name}")


def command(bundle: str, out: Path, name: str, options: list[str]) -> list[str]:
    """The command line of one run; what it says goes to the terminal."""
    images, results = str(out / "images"), str(out / name)
    return [sys.executable, "-m", "samling.cli", "archive", bundle, images, "-o", results,
            *options]  # fmt: skip


def hashes(folder: Path) -> dict[str, str]:
    """Every file of a folder, by its name in it."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


if __name__ == "__main__":
    main()
