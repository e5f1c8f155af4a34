"""COCO instance files: polygons and uncompressed runs, one JSON per data set or one per part."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from samling.data.sources.entry import Entry, Listing, Polygon, Problem, RunLength, Shape
from samling.data.sources.files import safe_id
from samling.errors import InputError

_KEYS = ("images", "annotations", "categories")
_MAX_JSON_BYTES = 1 << 29
Item = dict[str, Any]


def matches(root: Path) -> bool:
    """True if a JSON file with the three tables of COCO is there, at most one folder down."""
    return any(_looks_like_coco(path) for path in _candidates(root))


def read(root: Path) -> Listing:
    """List all images of all JSON files; an image without annotations has nothing in it.

    A file whose name or folder says train, val or test gives its images that part.

    Raises:
        InputError: no such file, broken tables, or more than 31 categories.
    """
    files = [path for path in _candidates(root) if _looks_like_coco(path)]
    if not files:
        raise InputError(
            root, "has no COCO file", "put a JSON with images, annotations, categories"
        )
    parts = {path: _part(path) for path in files}
    named = len(files) > 1 and all(parts.values())
    names: dict[str, int] = {}
    entries: list[Entry] = []
    problems: list[Problem] = []
    for path in files:
        part = parts[path] if named else None
        try:
            entries += _read_file(path, root, part, names, problems)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problem = f"has broken tables ({type(error).__name__}: {error})"
            raise InputError(path, problem, "export it again") from error
    if len(names) > 31:
        raise InputError(root, f"has {len(names)} categories", "keep at most 31")
    return Listing(entries, tuple(names) or ("foreground",), problems)


def _candidates(root: Path) -> list[Path]:
    return sorted([*root.glob("*.json"), *root.glob("*/*.json")])


def _looks_like_coco(path: Path) -> bool:
    try:
        tables = _load(path)
    except (OSError, ValueError):
        return False
    return isinstance(tables, dict) and all(isinstance(tables.get(key), list) for key in _KEYS)


def _load(path: Path) -> Any:
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise ValueError("too large")
    return json.loads(path.read_text(encoding="utf-8"))


def _part(path: Path) -> str | None:
    text = f"{path.parent.name} {path.stem}".lower()
    return next((part for part in ("train", "val", "test") if part in text), None)


def _read_file(
    path: Path, root: Path, part: str | None, names: dict[str, int], problems: list[Problem]
) -> list[Entry]:
    """Entries of one file; `names` (class name -> number) grows over the files."""
    tables = _load(path)
    label = {
        item["id"]: names.setdefault(str(item["name"]), len(names) + 1)
        for item in sorted(tables["categories"], key=lambda item: int(item["id"]))
    }
    drawn: dict[Any, list[Item]] = defaultdict(list)
    for annotation in tables["annotations"]:
        drawn[annotation["image_id"]].append(annotation)
    entries = []
    for item in tables["images"]:
        image = _find(str(item["file_name"]), path, root)
        if image is None:
            reason = f"names '{item['file_name']}', which is not there"
            problems.append(Problem(str(path), reason, "add the image"))
            continue
        try:
            shapes = [shape for mark in drawn[item["id"]] for shape in _shapes(mark, label)]
        except InputError as error:
            problems.append(Problem(str(image), error.problem, error.remedy))
            continue
        relative = image.relative_to(root).with_suffix("")
        name = safe_id("_".join(relative.parts) if part else image.stem)
        entries.append(Entry(name, image, tuple(shapes), part=part))
    return entries


def _find(name: str, path: Path, root: Path) -> Path | None:
    """The image beside the file, in the root or in a usual folder; never outside of the root."""
    stem = path.stem.removeprefix("instances_")
    for folder in (path.parent, root, root / "images", root / stem, root / "images" / stem):
        image = folder / name
        if image.is_file() and image.resolve().is_relative_to(root.resolve()):
            return image if image.is_relative_to(root) else root / image.resolve().name
    return None


def _shapes(annotation: Item, label: dict[Any, int]) -> list[Shape]:
    number = label[annotation["category_id"]]
    marks = annotation.get("segmentation")
    if isinstance(marks, dict):
        if isinstance(marks["counts"], str):
            remedy = "export polygons or uncompressed runs"
            raise InputError("segmentation", "has compressed run lengths", remedy)
        height, width = (int(side) for side in marks["size"])
        return [RunLength(tuple(int(n) for n in marks["counts"]), height, width, number)]
    if not marks:
        remedy = "export masks, not boxes alone"
        raise InputError("segmentation", "has an annotation without contour", remedy)
    return [Polygon(_points(ring), number) for ring in marks]


def _points(ring: list[float]) -> tuple[tuple[float, float], ...]:
    values = [float(value) for value in ring]
    return tuple(zip(values[0::2], values[1::2], strict=True))
