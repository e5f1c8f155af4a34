"""Where the prompts of `predict` come from: the command line, a JSON file, or nowhere."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from samling.errors import InputError, one_of
from samling.inference.card import Card
from samling.prompts.prompt import ONLY_OUTSIDE, Prompt

_BYTES_AT_MOST = 256 << 20
_KEYS = ("box", "points", "class", "slice")
_EXAMPLE = '{"a.png": [{"box": [10, 20, 90, 80], "points": [[50, 40, 1]]}]}'


@dataclass(frozen=True)
class Asked:
    """One object asked for.

    Args:
        class_name: None: the model's first class.
        slice: of a volume, from 0; None: the one named for all objects, else the middle one.
    """

    prompt: Prompt
    class_name: str | None = None
    slice: int | None = None


@dataclass(frozen=True)
class PromptSource:
    """Prompts for every input file.

    Args:
        common: used for files without an entry of their own; None: such a file is refused.
        by_file: entries of the prompt file, by file name.
        where: the prompt file, for messages.
    """

    common: tuple[Asked, ...] | None
    by_file: dict[str, tuple[Asked, ...]] = field(default_factory=dict)
    where: str = "--prompts"

    def of(self, path: Path) -> tuple[Asked, ...]:
        """Prompts for one input.

        Raises:
            InputError: there are none for it.
        """
        asked = self.by_file.get(path.name, self.common)
        if asked is None:
            problem = f"has no entry for {path.name}"
            raise InputError(self.where, problem, "add one, or give --auto for the files without")
        return asked

    def unused(self, paths: Sequence[Path]) -> list[str]:
        """File names in the prompt file that no input has."""
        names = {path.name for path in paths}
        return [name for name in self.by_file if name not in names]


def prompt_source(
    card: Card,
    boxes: Sequence[Sequence[float]] = (),
    points: Sequence[Sequence[float]] = (),
    prompts_file: Path | None = None,
    auto: bool = False,
) -> PromptSource:
    """Decide what is asked of the model; nothing given means automatic, if the model can.

    Args:
        boxes: x0, y0, x1, y1 each: an object each.
        points: x, y or x, y, label each: all of them one object.

    Raises:
        InputError: a contradiction, a malformed value, or a prompt kind that the model lacks.
    """
    _refuse_contradictions(bool(boxes or points), prompts_file, auto)
    if prompts_file is not None:
        by_file = read_prompts(prompts_file, card.classes)
        common = (Asked(Prompt()),) if auto else None
        return PromptSource(common, by_file, str(prompts_file))
    asked = [Asked(Prompt(box=_numbers(box, (4,), "--box"))) for box in boxes]
    if points:
        rows = [_numbers(point, (2, 3), "--point") for point in points]
        asked.append(Asked(_points(rows, None, "--point")))
    if not asked and "automatic" not in card.prompts:
        kinds = " or ".join(f"--{kind.rstrip('s')}" for kind in card.prompts if kind != "mask")
        remedy = f"give {kinds}" if kinds else "use another model"
        raise InputError(card.name, "has no automatic mode", remedy)
    return PromptSource(tuple(asked) or (Asked(Prompt()),))


def read_prompts(path: Path, classes: Sequence[str]) -> dict[str, tuple[Asked, ...]]:
    """Read `{"<file name>": [{"box": [...], "points": [[x, y, label], ...], "class": ...}, ...]}`.

    A volume's object may name its `slice`, from 0.
    An object without any key is automatic; a file with an empty list has no objects.

    Raises:
        InputError: naming the file, the entry, the object (from 1) and the field at fault.
    """
    table = _load(path)
    if not isinstance(table, dict):
        _refuse(path, "is not a table of file names", f"write it like {_EXAMPLE}")
    by_file: dict[str, tuple[Asked, ...]] = {}
    for name, entries in table.items():
        if not isinstance(entries, list):
            _refuse(f"{path}, {name}", "is not a list of objects", f"write it like {_EXAMPLE}")
        by_file[name] = tuple(
            _object(entry, classes, f"{path}, {name}, object {number}")
            for number, entry in enumerate(entries, start=1)
        )
    return by_file


def _refuse_contradictions(pointed: bool, prompts_file: Path | None, auto: bool) -> None:
    if pointed and prompts_file is not None:
        remedy = "put all prompts in the file, or none"
        raise InputError("--prompts", "was given beside --box or --point", remedy)
    if pointed and auto:
        raise InputError("--auto", "was given beside --box or --point", "give one or the other")


def _load(path: Path) -> Any:
    try:
        if path.stat().st_size > _BYTES_AT_MOST:
            _refuse(path, f"is larger than {_BYTES_AT_MOST >> 20} MiB", "divide it")
        text = path.read_text(encoding="utf-8-sig")
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except OSError as error:
        _refuse(path, f"cannot be read ({error.strerror or error})", "check the path")
    except (ValueError, RecursionError) as error:
        _refuse(path, f"is not valid JSON ({error})", f"write it like {_EXAMPLE}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A table; the second of two equal keys would silently win."""
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for key in names if names.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice")
    return table


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _object(entry: Any, classes: Sequence[str], where: str) -> Asked:
    if not isinstance(entry, dict):
        _refuse(where, "is not a table", 'write {"box": [x0, y0, x1, y1]}')
    unknown = [key for key in entry if key not in _KEYS]
    if unknown:
        _refuse(f"{where}, {unknown[0]}", "is no known key", one_of(unknown[0], _KEYS))
    class_name = entry.get("class")
    if class_name is not None and class_name not in classes:
        problem = f"{class_name!r} is not a class of this model"
        _refuse(f"{where}, class", problem, one_of(str(class_name), classes))
    place = entry.get("slice")
    if place is not None and (type(place) is not int or place < 0):
        _refuse(f"{where}, slice", f"{place!r} is no slice", "count slices from 0")
    box = entry.get("box")
    corners = None if box is None else _numbers(box, (4,), f"{where}, box")
    points = entry.get("points")
    if not points:
        if points not in (None, []):
            _refuse(f"{where}, points", "is not a list", "write [[x, y, 1], ...]")
        return Asked(Prompt(box=corners), class_name, place)
    if not isinstance(points, list):
        _refuse(f"{where}, points", "is not a list", "write [[x, y, 1], ...]")
    rows = [
        _numbers(point, (2, 3), f"{where}, points, point {number}")
        for number, point in enumerate(points, start=1)
    ]
    return Asked(_points(rows, corners, f"{where}, points"), class_name, place)


def _points(
    rows: list[np.ndarray[Any, Any]], box: np.ndarray[Any, Any] | None, where: str
) -> Prompt:
    labels = np.array([row[2] if len(row) == 3 else 1 for row in rows], dtype=np.int64)
    prompt = Prompt(box, np.array([row[:2] for row in rows], dtype=np.float64), labels)
    if prompt.only_outside:
        remedy = f"{ONLY_OUTSIDE}: both in one entry of a --prompts FILE.json"
        raise InputError(where, "only say where the object is not", remedy)
    return prompt


def _numbers(values: Any, counts: tuple[int, ...], where: str) -> np.ndarray[Any, Any]:
    """(N,) finite numbers; a third one is a point's label."""
    allowed = " or ".join(map(str, counts))
    if not isinstance(values, list | tuple | np.ndarray) or len(values) not in counts:
        _refuse(where, f"{values!r} is not {allowed} numbers", "pixels of the original image")
    real = [isinstance(v, int | float) and not isinstance(v, bool) for v in values]
    if not all(real) or not all(abs(v) < 1e9 for v in values):
        _refuse(
            where, f"{values!r} is not {allowed} finite numbers", "pixels of the original image"
        )
    if len(values) == 3 and values[2] not in (0, 1):
        _refuse(where, f"label {values[2]!r} is unknown", "use 1 (inside) or 0 (outside)")
    return np.array(values, dtype=np.float64)


def _refuse(where: str | Path, problem: str, remedy: str) -> NoReturn:
    raise InputError(where, problem, remedy)
