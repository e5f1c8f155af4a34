"""TN3K: trainval-image/, trainval-mask/, test-image/, test-mask/, with the publisher's own split.

Thyroid nodules, Gong et al., https://arxiv.org/abs/2107.05319. Fold 0 divides training and
validation. The test set stays as published.
"""

import json
from pathlib import Path

from samling.data.sources.entry import Entry, Listing, MaskFile, Problem
from samling.data.sources.files import by_stem, images_in, natural, safe_id
from samling.errors import InputError

FOLD = "tn3k-trainval-fold0.json"


def matches(root: Path) -> bool:
    """True if the folders of both halves are there."""
    return (root / "trainval-image").is_dir() and (root / "trainval-mask").is_dir()


def read(root: Path) -> Listing:
    """List both halves; without the fold file, validation is cut from training later."""
    problems: list[Problem] = []
    validation = _validation_numbers(root / FOLD)
    entries: list[Entry] = []
    for half in ("trainval", "test"):
        masks = by_stem(images_in(root / f"{half}-mask"), problems)
        images = by_stem(images_in(root / f"{half}-image"), problems)
        for stem in sorted(images, key=natural):
            if stem not in masks:
                problems.append(Problem(str(images[stem]), "has no mask", "add its mask"))
                continue
            held_out = stem.isdigit() and int(stem) in validation
            part = "test" if half == "test" else "val" if held_out else "train"
            entries.append(
                Entry(
                    safe_id(f"{half}_{stem}"),
                    images[stem],
                    (MaskFile(masks[stem], label=1),),
                    modality="ultrasound",
                    part=part,
                )
            )
        for stem in sorted(masks.keys() - images.keys(), key=natural):
            problems.append(Problem(str(masks[stem]), "has no image", "add its image or remove it"))
    licence = "TN3K, Gong et al. 2021: research use, no licence text known"
    return Listing(entries, ("nodule",), problems, licence, official=True)


def _validation_numbers(path: Path) -> set[int]:
    if not path.is_file():
        return set()
    try:
        return {int(number) for number in json.loads(path.read_text(encoding="utf-8"))["val"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(path, f"is no fold of TN3K ({error})", "copy it again") from error
