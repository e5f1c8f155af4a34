"""Does `torchrun` with two processes train as one process does? The loss of every step to 1e-5.

python scripts/torchrun_check.py --data STORE.h5 -o OUT [--steps 50] [--batch 4] [--processes 2]

The recipe lg-medseg in float32, so that rounding is that of the sums alone. An epoch is one step long, so
that every step's loss is in metrics.jsonl; choose a store with few validation images. Prints images/s too.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

TOLERANCE = 1e-5


def main() -> None:
    """Run both and compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", "-o", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    arguments = ["adapt", "lg-medseg", "--data", given.data, f"training.epochs={given.steps}",
                 f"training.images_per_epoch={given.batch}", f"training.batch_size={given.batch}",
                 "training.precision=fp32"]  # fmt: skip
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={given.processes}"]
    rows = {}
    for name, extra in (("one", []), ("several", launch)):
        out = given.out / name
        command = [sys.executable, *extra, "-m", "samling.cli", *arguments, "--out", str(out)]
        subprocess.run(command, check=True)
        lines = (out / "metrics.jsonl").read_text().splitlines()
        rows[name] = [json.loads(line) for line in lines]
    worst = 0.0
    for one, several in zip(rows["one"], rows["several"], strict=True):
        a, b = one["train"]["total"], several["train"]["total"]
        worst = max(worst, abs(a - b))
        print(f"step {one['step']}: loss {a:.7f} and {b:.7f}; images/s {one['images_per_second']} and "
              f"{several['images_per_second']}")  # fmt: skip
    print(f"largest difference {worst:.1e}, allowed {TOLERANCE:.0e}")
    sys.exit(worst > TOLERANCE)


if __name__ == "__main__":
    main()
