"""3D-IRCADb-01: PATIENT_DICOM and MASKS_DICOM/<region> per patient, as folders or as its zips."""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samling.data.readers.members import Member, is_zip, members_of
from samling.data.sources.entry import Listing, Problem, VolumeEntry
from samling.data.sources.files import natural, safe_id
from samling.data.volume import Volume
from samling.errors import InputError

SCAN, MASKS = "PATIENT_DICOM", "MASKS_DICOM"
CLASSES = ("liver", "liver tumour")
_ORGAN, _TUMOUR = "liver", "livertumo"  # livertumor, livertumor01, livertumor1, livertumors ...

Parts = dict[str, list[Member]]


def matches(root: Path) -> bool:
    """True for one patient, for a folder of patients, and for a zip of either."""
    if is_zip(root):
        return any(SCAN in member.folders for member in members_of(root))
    return any(root.glob(f"{SCAN}*")) or any(root.glob(f"*/{SCAN}*"))


def read(root: Path) -> Listing:
    """List the patients: class 1 is the liver, class 2 all its tumours; other regions are not used.

    Raises:
        InputError: no patient, or a damaged zip.
    """
    patients: dict[str, Parts] = {}
    for member in members_of(root):
        folders = member.folders
        for part in (SCAN, MASKS):
            if part in folders:
                above = "/".join(folders[: folders.index(part)])
                key = part if part == SCAN else folders[-1].lower()
                patients.setdefault(above, {}).setdefault(key, []).append(member)
    if not patients:
        raise InputError(root, f"holds no {SCAN}", "name the folder of 3Dircadb1 or of a patient")
    entries: list[VolumeEntry] = []
    problems: list[Problem] = []
    for above in sorted(patients, key=natural):
        parts, name = patients[above], above or root.resolve().name.removesuffix(".zip")
        missing = next((key for key in (SCAN, _ORGAN) if key not in parts), None)
        if missing:
            where = f"{SCAN}" if missing == SCAN else f"{MASKS}/{_ORGAN}"
            problems.append(Problem(name, f"has no {where}", "download this patient again"))
            continue
        patient = safe_id(Path(name).name)
        load = partial(_load, root, parts)
        entries.append(VolumeEntry(patient, root / above, load, patient=patient, group=patient))
    return Listing((), CLASSES, problems, "IRCAD, for research", volumes=entries)


def _load(root: Path, parts: Parts) -> tuple[Volume, NDArray[np.uint8]]:
    from samling.data.readers.volumes import read_marks, read_series

    volume = read_series(root, members=parts[SCAN])
    labels = read_marks(root, parts[_ORGAN], volume).astype(np.uint8)
    for region, members in parts.items():
        if region.startswith(_TUMOUR):
            labels[read_marks(root, members, volume)] = 2
    return volume, labels
