"""Seconds and memory of a whole volume, DICOM folder to DICOM SEG, in a process of its own.

python benchmarks/volume.py 3Dircadb1.17/PATIENT_DICOM.zip [--model runs/liver] --window abdomen
python benchmarks/volume.py --phantom 1000

Prints wall seconds, processor seconds and the largest memory of `samling predict`. Variables MALLOC_*
are unset for it: they would change the memory. `--phantom` writes a scan of so many slices of 512 x 512
first: a body with a liver through two thirds of it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

SIDE = 512


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("scan", nargs="?", type=Path, help="DICOM folder or zip")
    parser.add_argument("--phantom", type=int, help="slices of a made-up scan instead")
    parser.add_argument("--model", default="base")
    parser.add_argument("--clean", default="largest,holes,closing=3")
    parser.add_argument("--window", default="", help="as in `samling predict`")
    given = parser.parse_args()
    rest = ["--window", given.window] if given.window else []
    if (given.scan is None) == (given.phantom is None):
        parser.error("give a scan or --phantom N")
    with tempfile.TemporaryDirectory() as folder:
        scan = given.scan or write_phantom(Path(folder) / "scan", given.phantom)
        wanted = ["--auto", "--format", "dicom-seg", "--clean", given.clean, *rest]
        command = [sys.executable, "-m", "samling.cli", "predict", given.model, str(scan), *wanted]
        wall, processor, mebibytes = measure([*command, "-o", f"{folder}/out"])
        print(f"{scan.name}: {wall:.1f} s, {processor:.1f} processor seconds, {mebibytes:.0f} MiB")
        print(Path(folder, "out", "volumes.csv").read_text(encoding="utf-8"))


def measure(command: list[str]) -> tuple[float, float, float]:
    """Run a command: wall seconds, processor seconds, largest resident memory in MiB."""
    quiet = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    started = time.perf_counter()
    process = subprocess.Popen(command, env=quiet)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(command)} failed")
    wall = time.perf_counter() - started
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def write_phantom(folder: Path, slices: int) -> Path:
    """A CT series of so many slices."""
    folder.mkdir(parents=True)
    study, series, frame = (generate_uid() for _ in range(3))
    shared = {
        "SOPClassUID": CTImageStorage, "Modality": "CT", "StudyInstanceUID": study,
        "SeriesInstanceUID": series, "FrameOfReferenceUID": frame, "PatientID": "phantom",
        "PatientName": "", "Rows": SIDE, "Columns": SIDE, "SamplesPerPixel": 1,
        "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 1,
        "PhotometricInterpretation": "MONOCHROME2", "RescaleSlope": 1, "RescaleIntercept": 0,
        "PixelSpacing": [0.7, 0.7], "SliceThickness": 0.7,
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    }  # fmt: skip
    for index in range(slices):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        own = {
            "SOPInstanceUID": generate_uid(), "InstanceNumber": index + 1,
            "ImagePositionPatient": [0, 0, 0.7 * index],
            "PixelData": phantom_slice(index / slices).tobytes(),
        }  # fmt: skip
        for name, value in (shared | own).items():
            setattr(dataset, name, value)
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(folder / f"{index:05d}.dcm", enforce_file_format=True)
    return folder


def phantom_slice(level: float) -> NDArray[np.int16]:
    """(512, 512) Hounsfield units at a height from 0 to 1: air, a body of 20, a liver of 110, noise."""
    rng = np.random.default_rng(round(level * 1e6))
    y, x = np.mgrid[:SIDE, :SIDE]
    plane = np.full((SIDE, SIDE), -1000.0)
    plane[((x - 256) / 230) ** 2 + ((y - 256) / 170) ** 2 < 1] = 20
    size = 1 - ((level - 0.5) / 0.34) ** 2
    if size > 0:
        plane[((x - 170) / 120) ** 2 + ((y - 240) / 110) ** 2 < size] = 110
    return np.rint(plane + rng.normal(0, 12, plane.shape)).astype(np.int16)


if __name__ == "__main__":
    main()
