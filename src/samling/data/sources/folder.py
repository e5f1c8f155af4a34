"""Any folder of image and mask pairs: images/ beside masks/, or `x.png` beside `x_mask.png`."""

import re
from pathlib import Path

from samling.data.case import Modality
from samling.data.sources.entry import Entry, Listing, MaskFile, Problem
from samling.data.sources.files import (
    by_stem,
    images_in,
    natural,
    read_table,
    safe_id,
    unused_columns,
)
from samling.errors import InputError

IMAGE_FOLDERS = ("images", "image", "imgs", "img")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations")
COLUMNS = ("id", "group_id", "group", "case_id", "patient", "class", "category", "split", "pixel_mm",
           "modality", "organ", "target", "extra")  # fmt: skip
"""Of meta.csv, as they are read below."""
_MASK_NAME = re.compile(r"^(?P<stem>.+?)[_-](mask|label|seg|gt)(_?\d+)?$", re.IGNORECASE)

Row = dict[str, str]


def matches(root: Path) -> bool:
    """True for a folder laid out like this."""
    return _subfolder(root, IMAGE_FOLDERS) is not None or any(
        _MASK_NAME.match(path.stem) for path in images_in(root)
    )


def read(root: Path) -> Listing:
    """List the pairs; meta.csv may bring id, group_id, class, case_id, split, pixel_mm, modality.

    Further folders named masks_<class> hold one further class each; with them, masks/ is class 1.

    Raises:
        InputError: no images, no mask of any of them, or a meta.csv that cannot be used.
    """
    problems: list[Problem] = []
    meta = read_table(root / "meta.csv")
    problems += unused_columns(root / "meta.csv", meta, COLUMNS)
    folder = _subfolder(root, IMAGE_FOLDERS)
    if folder is None:
        images, masks = _pairs_by_name(root, problems)
        layers = {"foreground": masks}
    else:
        images = by_stem(images_in(folder), problems)
        layers = _layers(root, meta, problems)
    if not images:
        raise InputError(root, "has no images", "put PNG, JPEG, TIFF, BMP or DICOM files there")
    if not any(images.keys() & masks.keys() for masks in layers.values()):
        problem = f"has masks of none of its {len(images)} images"
        remedy = "add them (all black where nothing is there), or say `--as unlabelled`"
        raise InputError(root, problem, remedy)
    problems += _lonely(images, layers, meta, root)
    single = len(layers) == 1
    entries = []
    for stem in sorted(images, key=natural):
        found = _shapes(stem, layers, single)
        if found:
            entries.append(_entry(stem, images[stem], found, meta.get(stem, {})))
    return Listing(entries, tuple(layers), problems, _licence(root))


def _subfolder(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _pairs_by_name(
    root: Path, problems: list[Problem]
) -> tuple[dict[str, Path], dict[str, list[Path]]]:
    masks: dict[str, list[Path]] = {}
    images: list[Path] = []
    for path in images_in(root):
        match = _MASK_NAME.match(path.stem)
        if match:
            masks.setdefault(match["stem"], []).append(path)
        else:
            images.append(path)
    return by_stem(images, problems), masks


def _layers(
    root: Path, meta: dict[str, Row], problems: list[Problem]
) -> dict[str, dict[str, list[Path]]]:
    """Class name -> stem -> mask files."""
    first = _subfolder(root, MASK_FOLDERS)
    if first is None:
        raise InputError(
            root,
            "has images but no folder masks/",
            "put one mask per image there, or say `--as unlabelled`",
        )
    others = sorted(path for path in root.glob(f"{first.name}_*") if path.is_dir())
    layers = {_first_class(meta): _masks_in(first, problems)}
    for folder in others:
        layers[folder.name.removeprefix(f"{first.name}_")] = _masks_in(folder, problems)
    return layers


def _masks_in(folder: Path, problems: list[Problem]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for stem, path in by_stem(images_in(folder), problems).items():
        match = _MASK_NAME.match(stem)
        found.setdefault(match["stem"] if match else stem, []).append(path)
    return found


def _first_class(meta: dict[str, Row]) -> str:
    """The class in masks/, by the column `target` where all rows agree on one word or two."""
    targets = {row.get("target", "") for row in meta.values()} - {"", "none"}
    target = targets.pop() if len(targets) == 1 else ""
    return re.split(r"[,(]", target)[0].strip() or "foreground"


def _lonely(
    images: dict[str, Path],
    layers: dict[str, dict[str, list[Path]]],
    meta: dict[str, Row],
    root: Path,
) -> list[Problem]:
    problems = []
    for stem, path in images.items():
        if not any(stem in masks for masks in layers.values()):
            remedy = "add its mask (all black if nothing is there) or remove the image"
            problems.append(Problem(str(path), "has no mask", remedy))
    for masks in layers.values():
        for stem in masks.keys() - images.keys():
            problems.append(
                Problem(str(masks[stem][0]), "has no image", "add its image or remove it")
            )
    for stem in meta.keys() - images.keys():
        problems.append(
            Problem(
                str(root / "meta.csv"),
                f"names '{stem}', which has no image",
                "remove the row",
                "warning",
            )
        )
    return sorted(problems, key=lambda problem: natural(problem.file))


def _shapes(
    stem: str, layers: dict[str, dict[str, list[Path]]], single: bool
) -> tuple[MaskFile, ...]:
    return tuple(
        MaskFile(path, label=None if single else number)
        for number, masks in enumerate(layers.values(), start=1)
        for path in masks.get(stem, ())
    )


def _entry(stem: str, image: Path, shapes: tuple[MaskFile, ...], row: Row) -> Entry:
    return Entry(
        id=safe_id(stem),
        image=image,
        shapes=shapes,
        patient=row.get("case_id") or row.get("patient") or None,
        group=row.get("group_id") or row.get("group") or None,
        category=row.get("class") or row.get("category") or "",
        spacing_mm=_spacing(row),
        modality=_modality(row),
        part=row.get("split") or None,
    )


def _spacing(row: Row) -> tuple[float, float] | None:
    """Pixel size from a column pixel_mm, or from `pixel_mm...=` in the column extra."""
    text = row.get("pixel_mm") or ""
    for item in row.get("extra", "").split(";"):
        name, _, value = item.partition("=")
        if name in ("pixel_mm", "pixel_mm_staged"):
            text = value
    try:
        size = float(text)
    except ValueError:
        return None
    return (size, size) if 0 < size < 100 else None


def _modality(row: Row) -> Modality:
    words = re.findall(r"[a-z]+", f"{row.get('modality', '')} {row.get('organ', '')}".lower())
    if "ct" in words:
        return "ct"
    return "ultrasound" if {"us", "ultrasound", "sonography"} & set(words) else "unknown"


def _licence(root: Path) -> str:
    path = root / "LICENSE"
    return (
        path.read_text(encoding="utf-8", errors="replace").strip()[:200]
        if path.is_file()
        else "unknown"
    )
