"""`samling archive` on a local Ray cluster of two nodes against one single-core worker; one worker killed.

python benchmarks/cluster.py BUNDLE IMAGES [--count 400]

IMAGES is a folder of PNG files, copied under new names until there are `--count`. Images per second are
those between the first and the last record: start-up is printed beside it. Needs `.[cluster]`.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ray.cluster_utils import Cluster

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from archive_check import command, copied, hashes

WORKER = b"MapWorker(Map(_RayWorker))"


def main() -> None:
    """Three runs; print their speed, the ratio, and what a killed worker cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("images", type=Path)
    parser.add_argument("--count", type=int, default=400)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        copied(given.images, out / "images", given.count)
        one = timed(given.bundle, out, "one", {}, cores={min(os.sched_getaffinity(0))})
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        cluster.add_node(num_cpus=1)
        try:
            where = {"RAY_ADDRESS": cluster.address}
            two = timed(given.bundle, out, "two", where)
            print(f"two nodes, one core each: {two / one:.2f} times one core")
            with ThreadPoolExecutor(1) as pool:
                killer = pool.submit(kill_a_worker, out / "killed", given.count // 3)
                timed(given.bundle, out, "killed", where)
                killer.result()
        finally:
            cluster.shutdown()
        whole, killed = hashes(out / "one"), hashes(out / "killed")
        different = [
            name for name in whole.keys() | killed.keys() if whole.get(name) != killed.get(name)
        ]
        print(
            f"after a killed worker {len(different)} of {len(whole)} files differ {different[:5]}"
        )
        sys.exit(bool(different))


def timed(
    bundle: str, out: Path, name: str, more: dict[str, str], cores: set[int] | None = None
) -> float:
    """Images per second of one run of the command."""
    options = ["--ray"] if more else []
    cores = cores or os.sched_getaffinity(0)
    started = time.time()
    subprocess.run(
        command(bundle, out, name, options), check=True, env={**os.environ, **more},
        preexec_fn=lambda: os.sched_setaffinity(0, cores), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    times = sorted(path.stat().st_mtime for path in (out / name / "records").rglob("*.json"))
    speed = (len(times) - 1) / (times[-1] - times[0])
    print(f"{name}: {speed:.1f} images/s, first after {times[0] - started:.1f} s", flush=True)
    return speed


def kill_a_worker(out: Path, mark: int) -> None:
    """When `mark` images are done."""
    patience = time.monotonic() + 600
    while sum(1 for _ in (out / "records").rglob("*.json")) < mark:
        if time.monotonic() > patience:
            raise SystemExit(f"{mark} images were not done in ten minutes")
        time.sleep(0.05)
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found = WORKER in entry.read_bytes()
        except OSError:
            continue
        if found:
            os.kill(int(entry.parent.name), signal.SIGKILL)
            print(f"killed one worker after {mark} images", flush=True)
            return
    raise SystemExit("no worker was found that could be killed")


if __name__ == "__main__":
    main()
