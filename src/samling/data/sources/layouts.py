"""Which source reads a folder: by name, or by looking."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from samling.data.readers.members import is_zip
from samling.data.sources import (
    busi,
    chaos,
    coco,
    ddti,
    dircadb,
    folder,
    hc18,
    lits,
    nnunet,
    tg3k,
    tn3k,
    unlabelled,
    usefd,
)
from samling.data.sources.entry import Listing
from samling.errors import InputError, one_of


@dataclass(frozen=True)
class Layout:
    """A source: does it know the folder, what does it expect, and how is the folder read."""

    matches: Callable[[Path], bool]
    read: Callable[[Path], Listing]
    expects: str


# In order of detection: the most telling layouts first, pairs of files last.
LAYOUTS: dict[str, Layout] = {
    "nnunet": Layout(nnunet.matches, nnunet.read, "dataset.json, imagesTr/, labelsTr/"),
    "3dircadb": Layout(
        dircadb.matches, dircadb.read, "PATIENT_DICOM and MASKS_DICOM, or their zips"
    ),
    "chaos": Layout(chaos.matches, chaos.read, "a folder per patient with DICOM_anon/ and Ground/"),
    "lits": Layout(lits.matches, lits.read, "volume-0.nii and segmentation-0.nii ..."),
    "tn3k": Layout(tn3k.matches, tn3k.read, "trainval-image/, trainval-mask/, test-image/ ..."),
    "tg3k": Layout(tg3k.matches, tg3k.read, "thyroid-image/, thyroid-mask/"),
    "busi": Layout(busi.matches, busi.read, "benign/benign (1).png, benign (1)_mask.png ..."),
    "ddti": Layout(ddti.matches, ddti.read, "1.xml with contours for 1_1.jpg, 1_2.jpg ..."),
    "hc18": Layout(hc18.matches, hc18.read, "000_HC.png, 000_HC_Annotation.png"),
    "coco": Layout(coco.matches, coco.read, "a JSON with images, annotations, categories"),
    "folder": Layout(folder.matches, folder.read, "images/ and masks/, or x.png with x_mask.png"),
    "usefd": Layout(usefd.matches, usefd.read, "a folder per subject with image/ and mask/"),
    "unlabelled": Layout(unlabelled.matches, unlabelled.read, "images alone; never guessed"),
}


def read_layout(root: Path, layout: str | None = None) -> tuple[str, Listing]:
    """List a data set.

    Args:
        root: its folder.
        layout: a key of `LAYOUTS`; None: the first one that knows the folder.

    Returns:
        The layout's name, and the listing.

    Raises:
        InputError: no folder, an unknown layout, or nothing found.
    """
    if not root.exists():
        raise InputError(root, "does not exist", "check the path")
    if not root.is_dir() and not is_zip(root):
        raise InputError(root, "is a file", "name the folder or the zip of the data set")
    if layout is None:
        layout = next((name for name, known in LAYOUTS.items() if known.matches(root)), None)
        if layout is None:
            raise InputError(root, "has no known layout", f"expected one of: {_expected()}")
    elif layout not in LAYOUTS:
        raise InputError(
            layout, "is no known layout", one_of(layout, LAYOUTS, "samling prepare --help")
        )
    return layout, LAYOUTS[layout].read(root)


def _expected() -> str:
    return "; ".join(f"{name} ({known.expects})" for name, known in LAYOUTS.items())
