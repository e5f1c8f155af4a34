"""Is a distillation that is killed again and again the one that nobody touched?

python scripts/resume_check.py OUT [KILLS]     about ten minutes on 2 CPU cores for 20 kills

Distils the base into a tiny student on phantoms, teacher's cache included: once undisturbed, then with
kill -9 at random moments, 20 times, and as often resumed. Each run that ends is compared, byte for byte.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from safetensors import safe_open

from samling.data.phantom import write_phantom_set
from samling.recipes.prepare import prepare

IMAGES = 60
SETTINGS = ["student=tiny", "warm_start=false", "embedding.epochs=3", "embedding.batch_size=8",
            "decoder.epochs=3", "decoder.batch_size=8"]  # fmt: skip


def main(out: Path, kills: int) -> None:
    """Run and compare; ends with 1 if anything differs."""
    if out.exists() and any(out.iterdir()):
        sys.exit(f"{out} is not empty: what is there would be resumed; name a new folder")
    out.mkdir(parents=True, exist_ok=True)
    store = out / "phantoms.h5"
    prepare(write_phantom_set(out / "phantoms", IMAGES), store, "folder", name="phantoms")
    started = time.perf_counter()
    _start(store, out / "whole", out / "cache-whole").wait()
    seconds = time.perf_counter() - started
    print(f"undisturbed: {seconds:.0f} s", flush=True)
    killed, ended, wrong = 0, 0, 0
    chance = random.SystemRandom()
    while killed < kills:
        run, cache = out / f"cut-{ended}", out / f"cache-{ended}"
        process = _start(store, run, cache)
        try:
            code = process.wait(timeout=chance.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
            print(
                f"killed {killed} times; {_unreadable(cache)} files of the cache unreadable",
                flush=True,
            )
            if killed < kills:
                continue
            code = _start(store, run, cache).wait()
        wrong += _differences(out / "whole", run) if code == 0 else 1
        wrong += _unreadable(cache)
        ended += 1
        print(f"run {ended} ended with {code}; {wrong} differences so far", flush=True)
    print(f"{killed} kills over {ended} runs: {wrong} differences")
    sys.exit(bool(wrong))


def _start(store: Path, run: Path, cache: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "samling.cli", "distill", "base", "--data", str(store)]
    command += ["--teacher", "base", "--out", str(run), *SETTINGS]
    return subprocess.Popen(
        command,
        env=os.environ | {"SAMLING_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def _differences(whole: Path, cut: Path) -> int:
    """Of weights, card, and what validation said after every epoch: how many differ."""
    found = 0
    for name in ("base.safetensors", "base.json"):
        if (whole / name).read_bytes() != (cut / name).read_bytes():
            print(f"  {name} differs")
            found += 1
    for name in ("embedding", "decoder"):
        if _scores(whole / name) != _scores(cut / name):
            print(f"  {name}/metrics.jsonl differs")
            found += 1
    return found


def _scores(stage: Path) -> list[tuple[int, dict[str, float]]]:
    rows = [json.loads(line) for line in (stage / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [(row["epoch"], row["val"]) for row in rows]


def _unreadable(cache: Path) -> int:
    """Embeddings that cannot be opened; what is half written has another name."""
    bad = 0
    for path in cache.glob("embeddings/*/*.safetensors"):
        try:
            with safe_open(path, framework="np") as stream:
                stream.get_tensor("embedding")
        except Exception:  # whatever it is, nobody could use the file
            bad += 1
    return bad


if __name__ == "__main__":
    given = Path(sys.argv[1])
    main(given, int(sys.argv[2]) if len(sys.argv) > 2 else 20)
