"""What every test gets: fixed seeds, one thread, the shared real data, a tiny store."""

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

# Before PyTorch is imported, and for the processes that tests start: sums depend on the number of
# threads, so fixtures of every scope must use the same. One, because busy machines make two spin.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

# Shared machines are slow at times: no deadline per example, and the same examples in every run.
settings.register_profile("samling", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("samling")


@pytest.fixture(autouse=True)
def fixed_seeds() -> Iterator[None]:
    """Seed every global generator, so that no test depends on the order of tests."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - on purpose the global one: libraries draw from it
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(0)
        torch.set_num_threads(1)
    yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real annotated images; the test is skipped where it is absent."""
    folder = Path(os.environ.get("SAMLING_DATA", ROOT / "../shared/data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found in {folder}; set SAMLING_DATA")
    return folder


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 20 phantom pictures (10 patients) in the `folder` layout. Read only."""
    from samling.data.phantom import write_phantom_set

    return write_phantom_set(tmp_path_factory.mktemp("phantom"), 20, size=(64, 80))


@pytest.fixture(scope="session")
def tiny_store(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 20 phantom pictures with all three splits. Read only."""
    from samling.recipes.prepare import prepare

    path = tmp_path_factory.mktemp("store") / "tiny.h5"
    prepare(phantom_folder, path, "folder", name="tiny")
    return path


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder as adapt leaves it, over the untrained base; it predicts nonsense."""
    from samling.adapters.injection import save_adapter
    from samling.config import AdapterSection
    from samling.recipes.build import load_base, trainee

    base, section = load_base("untrained"), AdapterSection()
    run = tmp_path_factory.mktemp("run")
    save_adapter(run / "adapter.safetensors", trainee(base.model, section).state())
    flags = {"train_decoder": False, "train_encoder": False}
    changes = {
        "name": "tiny",
        "prompts": ("box", "points", "automatic"),
        "adapter": section.model_dump(mode="json") | flags,
    }
    base.card.model_copy(update=changes).save(run / "adapter.json")
    return run


@pytest.fixture(scope="session")
def ct_phantom() -> np.ndarray:
    """(24, 64, 64) Hounsfield units: a body, a liver of 120 HU with two darker tumours; labels by value."""
    z, y, x = np.mgrid[:24, :64, :64].astype(float)
    hu = np.full(z.shape, -1000, np.int16)
    hu[(y - 32) ** 2 / 30**2 + (x - 32) ** 2 / 30**2 < 1] = 0
    liver = (z - 12) ** 2 / 10**2 + (y - 30) ** 2 / 18**2 + (x - 26) ** 2 / 16**2 < 1
    hu[liver] = 120
    hu[(z - 10) ** 2 + (y - 26) ** 2 + (x - 20) ** 2 < 4.5**2] = 40
    hu[(z - 15) ** 2 + (y - 36) ** 2 + (x - 32) ** 2 < 3.5**2] = 41
    return hu


@pytest.fixture(scope="session")
def write_series() -> Callable[..., list[Path]]:
    """Write (D, H, W) whole numbers as a CT series of single-frame files; see `_write_series`."""
    return _write_series


def _write_series(
    folder: Path,
    hounsfield: np.ndarray,
    *,
    spacing_mm: tuple[float, float, float] = (2.5, 0.8, 0.7),
    origin: tuple[float, float, float] = (-100.0, -80.0, 30.0),
    orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
    step: tuple[float, ...] | None = None,
    rescale: Callable[[int], tuple[float, float]] = lambda k: (1, -1024),
    change: Callable[[int, Any], None] = lambda k, dataset: None,
    stored: str = "uint16",
) -> list[Path]:
    """File names sort against the position. `change(k, dataset)` may spoil slice k."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    folder.mkdir(parents=True, exist_ok=True)
    along = np.cross(orientation[:3], orientation[3:]) * spacing_mm[0] if step is None else step
    shared = _series_fields(folder, spacing_mm, orientation, stored)
    paths = []
    for k, plane in enumerate(hounsfield):
        slope, intercept = rescale(k)
        pixels = np.round((plane - intercept) / slope).astype(stored)
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        uid = generate_uid(entropy_srcs=[str(folder), str(k)])
        dataset.file_meta.MediaStorageSOPInstanceUID = uid
        values = shared | {
            "SOPInstanceUID": uid, "InstanceNumber": k + 1,
            "ImagePositionPatient": [float(v) for v in np.add(origin, np.multiply(k, along))],
            "Rows": plane.shape[0], "Columns": plane.shape[1],
            "RescaleSlope": slope, "RescaleIntercept": intercept, "PixelData": pixels.tobytes(),
        }  # fmt: skip
        for name, value in values.items():
            setattr(dataset, name, value)
        change(k, dataset)
        path = folder / f"image_{(len(hounsfield) - k) * 7}"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _series_fields(folder: Path, spacing_mm: Any, orientation: Any, stored: str) -> dict[str, Any]:
    """What all slices of a series have in common."""
    from pydicom.uid import CTImageStorage, generate_uid

    study, series, frame = (generate_uid(entropy_srcs=[str(folder), n]) for n in "abc")
    bits = 12 if stored == "uint16" else 16
    return {
        "SOPClassUID": CTImageStorage, "Modality": "CT", "StudyInstanceUID": study,
        "SeriesInstanceUID": series, "FrameOfReferenceUID": frame, "SeriesNumber": 3,
        "PatientID": "P1", "PatientName": "Doe", "PatientBirthDate": "", "PatientSex": "",
        "StudyDate": "20260101", "StudyTime": "", "AccessionNumber": "", "StudyID": "1",
        "ReferringPhysicianName": "", "SamplesPerPixel": 1, "BitsAllocated": 16, "BitsStored": bits,
        "HighBit": bits - 1, "PixelRepresentation": int(stored == "int16"),
        "PhotometricInterpretation": "MONOCHROME2", "SliceThickness": spacing_mm[0],
        "PixelSpacing": [spacing_mm[1], spacing_mm[2]],
        "ImageOrientationPatient": [float(v) for v in orientation],
    }  # fmt: skip
