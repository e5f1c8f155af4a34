"""HC18: fetal heads, `000_HC.png` with `000_HC_Annotation.png`, an ellipse drawn as an outline.

van den Heuvel et al., PLoS ONE 13(8):e0200412 (2018), CC BY 4.0. Pixel sizes come in a CSV. A
second image of one fetus is `010_2HC.png`: the first number is the subject.
"""

import re
from pathlib import Path

from samling.data.sources.entry import Entry, Listing, MaskFile, Problem
from samling.data.sources.files import images_in, natural, read_table

_NAME = re.compile(r"^(?P<subject>\d+)_(\d*)HC$")
SIZES = "training_set_pixel_size_and_HC.csv"


def matches(root: Path) -> bool:
    """True if an image and its annotation are there, here or in training_set/."""
    stems = {path.stem for path in images_in(_folder(root))}
    return any(_NAME.match(stem) and f"{stem}_Annotation" in stems for stem in stems)


def read(root: Path) -> Listing:
    """List the annotated images with their pixel size."""
    folder = _folder(root)
    files = {path.stem: path for path in images_in(folder)}
    beside = root / SIZES if (root / SIZES).is_file() else folder.parent / SIZES
    sizes = read_table(beside, key="filename")
    entries, problems = [], []
    for stem in sorted(files, key=natural):
        match = _NAME.match(stem)
        if match is None:
            continue
        outline = files.get(f"{stem}_Annotation")
        if outline is None:
            problems.append(Problem(str(files[stem]), "has no annotation", "add it"))
            continue
        entries.append(
            Entry(
                id=f"hc18_{stem}",
                image=files[stem],
                shapes=(MaskFile(outline, label=1, outline=True),),
                patient=match["subject"],
                group=f"subj{match['subject']}",
                spacing_mm=_spacing(sizes.get(files[stem].name, {})),
                modality="ultrasound",
            )
        )
    licence = "HC18, van den Heuvel et al. 2018: CC BY 4.0"
    return Listing(entries, ("fetal head",), problems, licence, public_name="fetal_hc18")


def _folder(root: Path) -> Path:
    return root / "training_set" if (root / "training_set").is_dir() else root


def _spacing(row: dict[str, str]) -> tuple[float, float] | None:
    try:
        size = float(row["pixel size(mm)"])
    except (KeyError, ValueError):
        return None
    return (size, size) if 0 < size < 100 else None
