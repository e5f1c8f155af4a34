"""BUSI as published: benign/, malignant/, normal/ with `benign (1).png` and its masks beside it.

Breast ultrasound images, https://doi.org/10.1016/j.dib.2019.104863. Some images have several
lesions, one mask file each. Patients are unknown: near-duplicates are all there is to group by.
"""

import re
from pathlib import Path

from samling.data.sources.entry import Entry, Listing, MaskFile, Problem
from samling.data.sources.files import images_in, natural

CATEGORIES = ("benign", "malignant", "normal")
_NAME = re.compile(r"^(?P<category>\w+) \((?P<number>\d+)\)(?P<mask>_mask(_\d+)?)?$")


def matches(root: Path) -> bool:
    """True if a folder of one category has a file named like BUSI's."""
    return any(_NAME.match(path.stem) for name in CATEGORIES for path in images_in(root / name)[:3])


def read(root: Path) -> Listing:
    """List images with all their masks; ids are benign_001 and so on."""
    problems: list[Problem] = []
    entries: list[Entry] = []
    for category in CATEGORIES:
        images, masks = _sorted_out(root / category, problems)
        entries += _entries(category, images, masks, problems)
        problems += [
            Problem(str(files[0]), "has no image", "add its image or remove it")
            for number, files in masks.items()
            if number not in images
        ]
    return Listing(
        entries,
        ("lesion",),
        problems,
        licence="BUSI, Al-Dhabyani et al. 2020: research use, see the publisher",
        public_name="breast_busi",
    )


def _sorted_out(
    folder: Path, problems: list[Problem]
) -> tuple[dict[int, Path], dict[int, list[Path]]]:
    images: dict[int, Path] = {}
    masks: dict[int, list[Path]] = {}
    for path in sorted(images_in(folder), key=lambda path: natural(path.stem)):
        match = _NAME.match(path.stem)
        if match is None:
            remedy = f"name it like '{folder.name} (1).png' or remove it"
            problems.append(Problem(str(path), "is not named like BUSI's files", remedy, "warning"))
        elif match["mask"]:
            masks.setdefault(int(match["number"]), []).append(path)
        else:
            images[int(match["number"])] = path
    return images, masks


def _entries(
    category: str, images: dict[int, Path], masks: dict[int, list[Path]], problems: list[Problem]
) -> list[Entry]:
    entries = []
    for number, image in sorted(images.items()):
        if number not in masks and category != "normal":
            problems.append(Problem(str(image), "has no mask", "add its mask or remove the image"))
            continue
        shapes = tuple(MaskFile(path, label=1) for path in masks.get(number, ()))
        entries.append(
            Entry(
                f"{category}_{number:03d}",
                image,
                shapes,
                category=category,
                modality="ultrasound",
            )
        )
    return entries
