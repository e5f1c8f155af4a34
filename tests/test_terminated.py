"""What a command leaves behind that is told to stop."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image


def test_a_terminated_prediction_keeps_its_table(tmp_path: Path) -> None:
    """SIGTERM, as a cluster or a service sends it: what is done is done, and in the table."""
    (tmp_path / "images").mkdir()
    pixels = np.zeros((48, 64), np.uint8)
    pixels[10:30, 12:40] = 255
    for number in range(300):
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number:03}.png")
    command = [sys.executable, "-m", "samling.cli", "predict", "base", str(tmp_path / "images")]
    command += ["-o", str(tmp_path / "out"), "--box", "12,10,40,30"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    overlays = (tmp_path / "out").glob
    while len(list(overlays("*_overlay.png"))) < 2 and time.monotonic() < until:
        time.sleep(0.05)  # two: an image that is stopped halfway is taken back, the first is done
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    rows = (tmp_path / "out" / "results.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert 0 < len(rows) == len(list((tmp_path / "out").glob("*_overlay.png"))) < 300
