"""Images that nobody has labelled, for the first stage of distill. Asked for, never recognised."""

from pathlib import Path

from samling.data.sources.entry import Entry, Listing, Problem
from samling.data.sources.files import by_stem, images_in, natural, safe_id
from samling.errors import InputError


def matches(root: Path) -> bool:
    """Never: labels that were overlooked would be lost in silence."""
    return False


def read(root: Path) -> Listing:
    """List the images of the folder, or of its subfolder images/.

    Raises:
        InputError: there are none.
    """
    folder = root / "images" if (root / "images").is_dir() else root
    problems: list[Problem] = []
    images = by_stem(images_in(folder), problems)
    if not images:
        raise InputError(root, "has no images", "put PNG, JPEG, TIFF, BMP or DICOM files there")
    entries = [
        Entry(safe_id(stem), images[stem], labelled=False) for stem in sorted(images, key=natural)
    ]
    return Listing(entries, ("object",), problems)
