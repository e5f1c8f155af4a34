"""CHAOS, its CT part: a folder per patient with DICOM_anon/ and Ground/ (one PNG per slice)."""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samling.data.readers.image import read_mask
from samling.data.sources.entry import Listing, Problem, VolumeEntry
from samling.data.sources.files import images_in, natural, safe_id
from samling.data.volume import Volume
from samling.errors import InputError

_SCAN, _MASKS = "DICOM_anon", "Ground"


def matches(root: Path) -> bool:
    """True if patients' folders are here or two folders further down (Train_Sets/CT/)."""
    return any(_scans(root))


def read(root: Path) -> Listing:
    """List the patients; the liver is class 1."""
    entries: list[VolumeEntry] = []
    problems: list[Problem] = []
    for scan in _scans(root):
        folder = scan.parent
        if not (folder / _MASKS).is_dir():
            problems.append(Problem(str(folder), f"has no {_MASKS}/", "use the training set"))
            continue
        id = safe_id(f"chaos_{folder.name}")
        load = partial(_load, scan, folder / _MASKS)
        entries.append(VolumeEntry(id, folder, load, patient=id, group=id))
    return Listing((), ("liver",), problems, "CC BY-NC-SA 4.0", volumes=entries)


def _scans(root: Path) -> list[Path]:
    found = [path for depth in ("*", "*/*", "*/*/*") for path in root.glob(f"{depth}/{_SCAN}")]
    return sorted((path for path in found if path.is_dir()), key=lambda path: natural(str(path)))


def _load(scan: Path, masks: Path) -> tuple[Volume, NDArray[np.uint8]]:
    """The n-th mask by name belongs to the n-th DICOM file by name, not by position."""
    from samling.data.readers.volumes import read_series

    volume = read_series(scan)
    files = sorted(images_in(masks), key=lambda path: natural(path.name))
    if len(files) != len(volume.names):
        problem = f"holds {len(files)} masks for {len(volume.names)} slices"
        raise InputError(masks, problem, "download this patient again")
    labels = np.zeros(volume.voxels.shape, np.uint8)
    order = sorted(range(len(files)), key=lambda index: natural(volume.names[index]))
    for file, index in zip(files, order, strict=True):
        values = read_mask(file)
        if values.shape != labels.shape[1:]:
            raise InputError(file, "is of another size than its slice", "download it again")
        labels[index] = values > 0
    return volume, labels
