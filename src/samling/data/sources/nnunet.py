"""nnU-Net and MSD: dataset.json, imagesTr/NAME[_0000] and labelsTr/NAME; images or volume files."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

from samling.data.case import Modality
from samling.data.readers.volume_file import is_volume_file, stem_of
from samling.data.sources.entry import (
    Entry,
    Listing,
    MaskFile,
    Problem,
    VolumeEntry,
    load_pair,
)
from samling.data.sources.files import (
    by_stem,
    images_in,
    natural,
    read_table,
    safe_id,
    unused_columns,
)
from samling.errors import InputError

COLUMNS = ("id", "group_id", "case_id", "class", "split")
"""Of meta.csv, as they are read below."""
_CHANNEL = re.compile(r"^(?P<name>.+)_(?P<channel>\d{4})$")


def matches(root: Path) -> bool:
    """True if dataset.json and imagesTr/ are there."""
    return (root / "dataset.json").is_file() and (root / "imagesTr").is_dir()


def read(root: Path) -> Listing:
    """List training cases, and test cases where labelsTs/ is there; the first channel is used.

    Raises:
        InputError: no valid dataset.json.
    """
    about = _about(root / "dataset.json")
    problems: list[Problem] = []
    licence = str(about.get("licence") or about.get("license") or "unknown")
    if volumes := _volumes(root, _modality(about), problems):
        return Listing((), _classes(root, about), problems, licence, volumes=volumes)
    tested = (root / "labelsTs").is_dir()
    entries: list[Entry] = []
    for ending in ("Tr", "Ts") if tested else ("Tr",):
        part = ("test" if ending == "Ts" else "train") if tested else None
        entries += _half(root, ending, part, _modality(about), problems)
    classes = _classes(root, about)
    return Listing(entries, classes, problems, licence, official=tested)


def _half(
    root: Path, ending: str, part: str | None, modality: Modality, problems: list[Problem]
) -> list[Entry]:
    folder = root / f"images{ending}"
    labels = by_stem(images_in(root / f"labels{ending}"), problems)
    images: dict[str, Path] = {}
    for path in images_in(folder):
        match = _CHANNEL.match(path.stem)
        if match and match["channel"] != "0000":
            reason = "is a further channel: only the first is used"
            problems.append(Problem(str(path), reason, "put the wanted channel first", "warning"))
        else:
            images[match["name"] if match else path.stem] = path
    for name in sorted(images.keys() ^ labels.keys(), key=natural):
        lonely = images.get(name) or labels[name]
        what = "label" if name in images else "image"
        problems.append(Problem(str(lonely), f"has no {what}", f"add its {what} or remove it"))
    return [
        Entry(safe_id(name), images[name], (MaskFile(labels[name]),), modality=modality, part=part)
        for name in sorted(images.keys() & labels.keys(), key=natural)
    ]


def _volumes(root: Path, modality: Modality, problems: list[Problem]) -> list[VolumeEntry]:
    """Scans of the training part; meta.csv may bring id, group_id, case_id, class and split."""
    meta = read_table(root / "meta.csv")
    problems += unused_columns(root / "meta.csv", meta, COLUMNS)
    scans = {_name(path): path for path in _volume_files(root / "imagesTr")}
    labels = {stem_of(path): path for path in _volume_files(root / "labelsTr")}
    for name in sorted(scans.keys() ^ labels.keys(), key=natural):
        what = "label" if name in scans else "image"
        lonely = str(scans.get(name) or labels[name])
        problems.append(Problem(lonely, f"has no {what}", f"add its {what} or remove it"))
    entries = []
    for name in sorted(scans.keys() & labels.keys(), key=natural):
        row = meta.get(name, {})
        entries.append(
            VolumeEntry(
                safe_id(name),
                scans[name],
                partial(load_pair, scans[name], labels[name]),
                patient=row.get("case_id") or None,
                group=row.get("group_id") or safe_id(name),
                category=row.get("class", ""),
                modality=modality,
                part=row.get("split") or None,
            )
        )
    return entries


def _volume_files(folder: Path) -> list[Path]:
    """The first channel of every scan; hidden files, as MSD has them, are left out."""
    if not folder.is_dir():
        return []
    files = (path for path in folder.iterdir() if is_volume_file(path))
    kept = (path for path in files if not path.name.startswith("."))
    return [path for path in kept if not re.search(r"_(?!0000)\d{4}$", stem_of(path))]


def _name(path: Path) -> str:
    return stem_of(path).removesuffix("_0000")


def _about(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path, f"is no JSON ({error})", "write it again") from error
    if not isinstance(about, dict) or not isinstance(about.get("labels"), dict):
        raise InputError(path, "has no 'labels'", "name the classes: {'background': 0, ...}")
    return about


def _classes(root: Path, about: dict[str, Any]) -> tuple[str, ...]:
    """Names of classes 1..k, from {"name": 1} (version 2) or {"1": "name"} (version 1)."""
    numbered: dict[int, str] = {}
    for key, value in about["labels"].items():
        if isinstance(value, int):
            numbered[value] = str(key)
        elif str(key).isdigit():
            numbered[int(key)] = str(value)
    top = max(numbered, default=0)
    if not 1 <= top <= 31:
        raise InputError(root / "dataset.json", "names no classes 1 to 31", "name them in 'labels'")
    return tuple(numbered.get(number, f"class_{number}") for number in range(1, top + 1))


def _modality(about: dict[str, Any]) -> Modality:
    channels = about.get("channel_names") or about.get("modality") or {}
    first = str(channels.get("0", "")).lower() if isinstance(channels, dict) else ""
    if first == "ct":
        return "ct"
    return "ultrasound" if first in ("us", "ultrasound") else "unknown"
