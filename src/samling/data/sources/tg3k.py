"""TG3K: thyroid-image/ and thyroid-mask/, frames of a few videos, numbered in order.

Thyroid glands, Gong et al., ISBI 2021. The publisher's tg3k-trainval.json divides neighbouring
frames of one video; it is not used. Blocks of consecutive frames are groups, and near-duplicates
join blocks that belong together.
"""

from pathlib import Path

from samling.data.sources.entry import Entry, Listing, MaskFile, Problem
from samling.data.sources.files import by_stem, images_in, natural, safe_id

BLOCK = 225
"""Frames in a group: about a sixteenth of the set, and shorter than most of its videos."""


def matches(root: Path) -> bool:
    """True if both folders are there."""
    return (root / "thyroid-image").is_dir() and (root / "thyroid-mask").is_dir()


def read(root: Path) -> Listing:
    """List the frames that have a mask."""
    problems: list[Problem] = []
    masks = by_stem(images_in(root / "thyroid-mask"), problems)
    images = by_stem(images_in(root / "thyroid-image"), problems)
    entries = []
    for stem in sorted(images, key=natural):
        if stem not in masks:
            problems.append(Problem(str(images[stem]), "has no mask", "add its mask"))
            continue
        group = f"block{int(stem) // BLOCK:02d}" if stem.isdigit() else None
        shapes = (MaskFile(masks[stem], label=1),)
        entries.append(
            Entry(safe_id(f"tg3k_{stem}"), images[stem], shapes, group=group, modality="ultrasound")
        )
    for stem in sorted(masks.keys() - images.keys(), key=natural):
        problems.append(Problem(str(masks[stem]), "has no image", "add its image or remove it"))
    licence = "TG3K, Gong et al. 2021: research use, no licence text known"
    return Listing(entries, ("thyroid gland",), problems, licence, public_name="thyroid_tg3k")
