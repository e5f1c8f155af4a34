"""Cells of a comparison: one method on one store with one seed, measured once and kept on disk."""

import base64
import hashlib
import json
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from samling.atomic import write_text
from samling.data.case import Case
from samling.evaluation.matrix import drawn_by_lot
from samling.evaluation.protocols import Answer, Asked, kinds_of
from samling.evaluation.run import Row, evaluate_segmenter
from samling.inference.card import Card
from samling.prompts.prompt import Prompt
from samling.recipes.evaluate import check_units, refuse_leaks
from samling.recipes.identity import fingerprint

if TYPE_CHECKING:
    from samling.data.splits import TestSplit, ValSplit
    from samling.data.store import Store

SCHEMA = 5
"""Raise it when a metric, a protocol or a baseline changes: then every cell is measured again."""
CARD = {"name", "base", "prompts", "licence"}
"""What a page says of a model, beside its training sets and the hash of its base."""
Progress = Callable[[str], None]
Shown = tuple[NDArray[np.bool_], list[Prompt]]


@dataclass(frozen=True)
class Cell:
    """What is measured.

    Args:
        method: name in tables. model: what is loaded, or the name of a baseline.
        seed: of prompts, and of the model where its name says so.
        fold: of the store, from 1; 0: the store has none.
        protocols: names; those that the model cannot do are left out.
    """

    store: str
    method: str
    model: str
    seed: int
    protocols: tuple[str, ...]
    fold: int = 0

    def __str__(self) -> str:
        """In words."""
        fold = f", fold {self.fold}" if self.fold else ""
        return f"{self.method} on {self.store}{fold}, seed {self.seed}"

    @property
    def file(self) -> str:
        """Name of its file: readable, and told apart by a hash."""
        fold = f"|fold {self.fold}" if self.fold else ""
        words = f"{self.store}|{self.method}|{self.seed}{fold}"
        plain = "".join(c if c.isalnum() else "-" for c in words)[:60]
        return f"{plain}-{hashlib.sha256(words.encode()).hexdigest()[:12]}.json"


@dataclass
class Measured:
    """What is known of a cell.

    Args:
        rows: protocol -> rows.
        shown: protocol -> id -> mask (packed) and prompts of the images drawn by lot.
        seconds: it took, all protocols together.
        trained_on: names of the sets that the model was trained on.
        base_sha256: of the model's card.
        card: more of it, see `CARD`.
        weights: fingerprints of the models behind it.
    """

    rows: dict[str, list[Row]]
    shown: dict[str, dict[str, Any]]
    seconds: float = 0.0
    trained_on: tuple[str, ...] = ()
    base_sha256: str = ""
    card: dict[str, Any] = field(default_factory=dict)
    weights: tuple[str, ...] = ()

    def answer(self, protocol: str, id: str) -> Shown | None:
        """Mask and prompts of a shown image; None if the method gave no answer."""
        kept = self.shown.get(protocol, {}).get(id)
        return None if kept is None else (_unpacked(kept["mask"]), _prompts(kept["prompts"]))


def together(parts: Sequence[Measured]) -> Measured:
    """What was measured of one method in all folds of a store, as if it were one cell."""
    if len(parts) == 1:
        return parts[0]
    rows: dict[str, list[Row]] = {}
    shown: dict[str, dict[str, Any]] = {}
    for part in parts:
        for protocol, more in part.rows.items():
            rows.setdefault(protocol, []).extend(more)
        for protocol, images in part.shown.items():
            shown.setdefault(protocol, {}).update(images)
    sets = {name: None for part in parts for name in part.trained_on}
    return Measured(
        rows=rows,
        shown=shown,
        seconds=sum(part.seconds for part in parts),
        trained_on=tuple(sets),
        base_sha256=parts[0].base_sha256,
        card=parts[0].card,
        weights=tuple(weights for part in parts for weights in part.weights),
    )


def measure_cell(
    cell: Cell,
    store: "Store",
    part: "ValSplit | TestSplit",
    folder: Path,
    load: Callable[[], Asked[Any]],
    say: Progress,
    before: Callable[[Card], None] = lambda card: None,
) -> Measured:
    """Read the cell from `folder`, measure what is missing of it, write it back.

    Args:
        cell: which.
        store: its store. part: the cases to measure.
        folder: of the cells.
        load: gives the method's segmenter; called only if something is missing.
        say: told how it goes.
        before: called before images are looked at.

    Raises:
        InputError: the model cannot be loaded, or has seen these images (both say which).
    """
    key, path = _key(cell, store, part), folder / cell.file
    found = _read(path, key)
    found.weights = (key["model"],)
    missing = [name for name in cell.protocols if name not in found.rows]
    if not missing:
        return found
    segmenter = load()
    found.trained_on = segmenter.card.trained_on
    found.base_sha256 = segmenter.card.base_sha256
    found.card = segmenter.card.model_dump(mode="json", include=CARD)
    before(segmenter.card)
    check_units(segmenter.card, store, part.ids, cell.model)
    refuse_leaks(segmenter.card, store, cell.model, part, say)
    store.neighbours = segmenter.card.slices == 3
    _measure(found, missing, cell, store, part, segmenter, say)
    _write(path, key, found)
    return found


def _measure(
    found: Measured,
    missing: list[str],
    cell: Cell,
    store: "Store",
    part: "ValSplit | TestSplit",
    segmenter: Asked[Any],
    say: Progress,
) -> None:
    able = [name for name in missing if set(kinds_of(name)) <= set(segmenter.card.prompts)]
    shown = set(drawn_by_lot(part.ids))

    def keep(case: Case, protocol: str, answer: Answer) -> None:
        if case.id in shown:
            kept = {"mask": _packed(answer.mask), "prompts": [_plain(p) for p in answer.prompts]}
            found.shown.setdefault(protocol, {})[case.id] = kept

    started = time.perf_counter()
    rows = evaluate_segmenter(
        segmenter, store, part, able, cell.seed, method=cell.method, progress=say, seen=keep
    )
    found.seconds += time.perf_counter() - started
    for name in missing:  # also those it cannot do: an empty list, so that nobody asks again
        found.rows[name] = [row for row in rows if row.protocol == name]


def _key(cell: Cell, store: "Store", part: "ValSplit | TestSplit") -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "method": cell.method,
        "model": fingerprint(cell.model),
        "seed": cell.seed,
        "store": store.content_hash,
        "ids": hashlib.sha256(json.dumps(part.ids).encode()).hexdigest(),
    }


def _read(path: Path, key: dict[str, Any]) -> Measured:
    """What was measured before of this very cell; nothing if anything about it has changed."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return Measured({}, {})
    if not isinstance(content, dict) or content.get("key") != key:
        return Measured({}, {})
    rows = {name: [Row(**row) for row in rows] for name, rows in content["rows"].items()}
    return Measured(
        rows=rows,
        shown=content["shown"],
        seconds=content["seconds"],
        trained_on=tuple(content["trained_on"]),
        base_sha256=content["base_sha256"],
        card=content["card"],
    )


def _write(path: Path, key: dict[str, Any], found: Measured) -> None:
    content = {
        "key": key,
        "rows": {name: [asdict(row) for row in rows] for name, rows in found.rows.items()},
        "shown": found.shown,
        "seconds": found.seconds,
        "trained_on": found.trained_on,
        "base_sha256": found.base_sha256,
        "card": found.card,
    }
    write_text(path, json.dumps(content, allow_nan=False) + "\n")


def _packed(mask: NDArray[np.bool_]) -> dict[str, Any]:
    bits = base64.b64encode(zlib.compress(np.packbits(mask).tobytes())).decode("ascii")
    return {"shape": list(mask.shape), "bits": bits}


def _unpacked(kept: dict[str, Any]) -> NDArray[np.bool_]:
    height, width = kept["shape"]
    bits = np.frombuffer(zlib.decompress(base64.b64decode(kept["bits"])), dtype=np.uint8)
    return np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool)


def _plain(prompt: Prompt) -> dict[str, Any]:
    box = None if prompt.box is None else prompt.box.tolist()
    return {"box": box, "points": prompt.points.tolist(), "labels": prompt.point_labels.tolist()}


def _prompts(kept: list[dict[str, Any]]) -> list[Prompt]:
    found = []
    for item in kept:
        prompt = Prompt() if item["box"] is None else Prompt(box=np.array(item["box"]))
        if item["points"]:
            labels = np.array(item["labels"])
            prompt = replace(prompt, points=np.array(item["points"]), point_labels=labels)
        found.append(prompt)
    return found
