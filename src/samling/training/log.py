"""What a run leaves behind: metrics.jsonl, TensorBoard, environment.json."""

import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from samling.atomic import write_text

PACKAGES = ("samling", "torch", "transformers", "numpy", "opencv-python-headless", "h5py")


class MetricsLog:
    """metrics.jsonl, a line per epoch, and the same values for TensorBoard if it is installed.

    Args:
        folder: the run folder.
        epochs_done: how many epochs the checkpoint holds; later lines are cut off when resuming.
    """

    def __init__(self, folder: Path, epochs_done: int) -> None:
        self.path = folder / "metrics.jsonl"
        self.rows = [row for row in read_metrics(self.path) if row["epoch"] <= epochs_done]
        self._write()
        self._board = _tensorboard(folder / "tensorboard")

    def add(self, row: dict[str, Any]) -> None:
        """Append one epoch's values; the file is rewritten whole, so it is never half a line."""
        self.rows.append(row)
        self._write()
        if self._board is None:
            return
        for group in ("train", "val"):
            for name, value in row.get(group, {}).items():
                self._board.add_scalar(f"{group}/{name}", value, row["epoch"])
        self._board.flush()

    def _write(self) -> None:
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in self.rows))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a metrics.jsonl, [] if it doesn't exist."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))


def environment() -> dict[str, Any]:
    """Versions, machine kind and git commit, for environment.json."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": versions,
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
