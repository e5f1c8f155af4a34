"""LiTS: volume-N.nii and segmentation-N.nii, here or in folders below; liver 1, tumour 2."""

import re
from functools import partial
from pathlib import Path

from samling.data.sources.entry import Listing, Problem, VolumeEntry, load_pair
from samling.data.sources.files import natural, safe_id

_SCAN = re.compile(r"^volume-(\d+)\.nii(\.gz)?$")


def matches(root: Path) -> bool:
    """True if there is a volume-N.nii."""
    return bool(_scans(root))


def read(root: Path) -> Listing:
    """List the scans that have a segmentation beside them."""
    entries: list[VolumeEntry] = []
    problems: list[Problem] = []
    for scan in _scans(root):
        stem = scan.name.partition(".")[0].replace("volume-", "segmentation-")
        files = (scan.with_name(f"{stem}{suffix}") for suffix in (".nii", ".nii.gz"))
        labels = next((file for file in files if file.is_file()), None)
        if labels is None:
            problems.append(Problem(str(scan), "has no segmentation", "add it or remove the scan"))
            continue
        id = safe_id(scan.name.partition(".")[0])
        entries.append(VolumeEntry(id, scan, partial(load_pair, scan, labels), group=id))
    return Listing((), ("liver", "liver tumour"), problems, "CC BY-NC-SA 4.0", volumes=entries)


def _scans(root: Path) -> list[Path]:
    found = [path for depth in ("*", "*/*") for path in root.glob(depth) if _SCAN.match(path.name)]
    return sorted(found, key=lambda path: natural(path.name))
