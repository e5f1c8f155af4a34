"""Is a distillation that is killed again and again the one that nobody touched?

python scripts/resume_check.py OUT [KILLS]     about twenty minutes on 2 CPU cores for 20 kills of each kind

Distils the base into a tiny student on phantoms: once undisturbed, then with kill -9 at random moments and
resumed, 20 times or more while the teacher's cache is written and in training. Each run that ends is
compared with the undisturbed one, byte for byte.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

from safetensors import safe_open

from samling.data.phantom import write_phantom_set
from samling.recipes.prepare import prepare

IMAGES = 120
CACHE, TRAINING = "writing the cache", "training"
SETTINGS = ["student=tiny", "warm_start=false", "embedding.epochs=3", "embedding.batch_size=8",
            "decoder.epochs=3", "decoder.batch_size=8"]  # fmt: skip


def main(out: Path, kills: int) -> None:
    """Run and compare; ends with 1 if anything differs."""
    if out.exists() and any(out.iterdir()):
        sys.exit(f"{out} is not empty: what is there would be resumed; name a new folder")
    out.mkdir(parents=True, exist_ok=True)
    store, whole = out / "phantoms.h5", out / "cache-whole"
    prepare(write_phantom_set(out / "phantoms", IMAGES), store, "folder", name="phantoms")
    spans, total = _undisturbed(store, out / "whole", whole), len(_embeddings(whole))
    told = ", ".join(f"{name} {start:.0f} to {end:.0f} s" for name, (start, end) in spans.items())
    print(f"undisturbed: {told}", flush=True)
    killed, ended, wrong = dict.fromkeys(spans, 0), 0, 0
    chance = random.SystemRandom()
    while min(killed.values()) < kills:
        run, cache = out / f"cut-{ended}", out / f"cache-{ended}"
        process = _start(store, run, cache)
        try:
            full = len(_embeddings(cache)) == total
            code = process.wait(timeout=chance.uniform(*_span(spans, full, killed[CACHE] < kills)))
        except subprocess.TimeoutExpired:
            full = len(_embeddings(cache)) == total
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed[TRAINING if full else CACHE] += 1
            bad = sum(map(_damaged, _embeddings(cache)))
            wrong += bad
            print(f"killed {killed}; {bad} files of the cache damaged", flush=True)
            continue
        if code:
            sys.exit(f"run {ended} ended with {code}")
        wrong += _differences(out / "whole", run) + sum(map(_damaged, _embeddings(cache)))
        ended += 1
        print(f"{ended} runs ended; {wrong} differences so far", flush=True)
    print(f"{killed} kills over {ended} ended runs: {wrong} differences")
    sys.exit(bool(wrong))


def _span(spans: dict[str, tuple[float, float]], full: bool, wanted: bool) -> tuple[float, float]:
    """Between which seconds a process is killed; `full`: it finds the cache written, and trains at once."""
    (writing, training), (_, end) = spans[CACHE], spans[TRAINING]
    if full:
        return writing, writing + end - training
    return (writing, training) if wanted else (training, end)


def _undisturbed(store: Path, run: Path, cache: Path) -> dict[str, tuple[float, float]]:
    """From when to when the cache was written, and trained, in seconds after the start."""
    process, started = _start(store, run, cache), time.perf_counter()
    writing = training = 0.0
    while process.poll() is None:
        now = time.perf_counter() - started
        writing = writing or now * bool(_embeddings(cache))
        training = training or now * (run / "embedding").exists()
        time.sleep(0.1)
    if process.returncode:
        sys.exit(f"the undisturbed run ended with {process.returncode}")
    return {CACHE: (writing, training), TRAINING: (training, time.perf_counter() - started)}


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


def _embeddings(cache: Path) -> list[Path]:
    """Whole files; what is half written has another name."""
    return sorted(cache.glob("embeddings/*/*.safetensors"))


def _damaged(path: Path) -> bool:
    """Whether an embedding cannot be opened, or is not what was written."""
    try:
        with safe_open(path, framework="np") as stream:
            told = (stream.metadata() or {})["crc32"]
            return told != str(zlib.crc32(stream.get_tensor("embedding").tobytes()))
    except Exception:  # whatever it is, nobody could use the file
        return True


if __name__ == "__main__":
    given = Path(sys.argv[1])
    main(given, int(sys.argv[2]) if len(sys.argv) > 2 else 20)
