"""Adapting beside LiteMedSAM's own way of training: images per second and peak memory, in one run.

python benchmarks/training.py [--images 128] [--threads 2]

Ours: `adapt lg-medseg` on phantoms, the second epoch. LiteMedSAM's: every weight of its network in float32,
batches of 4 boxes, Dice + cross-entropy + squared error of the quality, AdamW 5e-5 (train_one_gpu.py of
its authors), in our form of its network. Each in a process of its own, one after the other.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from samling.data.phantom import write_phantom_set
from samling.losses import dice, hard_iou
from samling.models.sam import Sam
from samling.prompts.prompt import Prompt
from samling.recipes.adapt import adapt
from samling.recipes.objective import to_tokens
from samling.recipes.prepare import prepare

THEIR_BATCH, THEIR_STEPS = 4, 3


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", choices=("ours", "theirs"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.only:
        speed = ours(given.images) if given.only == "ours" else theirs()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
        print(json.dumps([speed, peak]))
        return
    found = {name: measured(name, given) for name in ("ours", "theirs")}
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{given.threads} threads, load {load}\n")
    print("| | images/s | ratio | peak GB |\n| --- | --- | --- | --- |")
    for name, title in (("ours", "adapt lg-medseg"), ("theirs", "LiteMedSAM, all weights, fp32")):
        speed, peak = found[name]
        print(f"| {title} | {speed:.2f} | {speed / found['theirs'][0]:.1f} | {peak:.2f} |")


def measured(name: str, given: argparse.Namespace) -> tuple[float, float]:
    """Images per second and GB, of this program run for one of them."""
    command = [sys.executable, __file__, "--only", name, "--images", str(given.images)]
    command += ["--threads", str(given.threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    speed, peak = json.loads(done.stdout.strip().splitlines()[-1])
    return speed, peak


def ours(images: int) -> float:
    """Images per second of the second epoch."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        prepare(
            write_phantom_set(place / "data", images), place / "data.h5", "folder", name="phantoms"
        )
        run = adapt("lg-medseg", [place / "data.h5"], place / "run", overrides=["training.epochs=2"],
                    report=lambda message: None)  # fmt: skip
        rows = (run / "metrics.jsonl").read_text().splitlines()
    return float(json.loads(rows[-1])["images_per_second"])


def theirs() -> float:
    """Images per second of the fastest step."""
    model = Sam("full", automatic=False).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.01)
    size = model.input_size
    images = torch.rand(THEIR_BATCH, 1, size, size)
    wanted = torch.zeros(THEIR_BATCH, size, size)
    wanted[:, 80:180, 60:200] = 1
    box = Prompt(box=np.array([60.0, 80, 200, 180]))
    tokens = to_tokens([box] * THEIR_BATCH, size, torch.device("cpu"))
    best = float("inf")
    for _ in range(THEIR_STEPS):
        started = time.perf_counter()
        decoded = model.decode(model.encode(images), tokens)
        logits = F.interpolate(decoded.masks, [size, size], mode="bilinear").squeeze(1)
        quality = F.mse_loss(decoded.quality.squeeze(1), hard_iou(logits.detach(), wanted))
        loss = dice(logits, wanted) + F.binary_cross_entropy_with_logits(logits, wanted) + quality
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        best = min(best, time.perf_counter() - started)
    return THEIR_BATCH / best


if __name__ == "__main__":
    main()
