"""provenance: what a comparison measured, and with what: its data, its methods, its machine."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samling.evaluation.report import Table
from samling.recipes.cells import Measured
from samling.recipes.sweep import Grid, Sweep

_SHORT = 12
_SHOWN = 3


@dataclass(frozen=True)
class Data:
    """What was measured of a store, or of one fold of it.

    Args:
        data: name in tables. set_name: the store's own. fold: from 1; 0: it has none.
        content_hash: of the whole store.
        split: `val` or `test`. split_hash, split_rule: of the split that it is a part of.
        images: measured. groups: patients, or look-alikes, that these come from.
    """

    data: str
    set_name: str
    fold: int
    content_hash: str
    licence: str
    split: str
    split_hash: str
    split_rule: str
    images: int
    groups: int


@dataclass(frozen=True)
class Method:
    """What stands behind a name in the tables.

    Args:
        method: name in tables. data: what it was measured on.
        card: name of the model's card. base: of the weights that stayed frozen, with base_sha256.
        weights: hash of the model's files, one for every model that has this name (seed, fold).
        trained_on: names of sets. prompts: kinds that it takes. licence: of the model.
    """

    method: str
    data: tuple[str, ...]
    card: str
    base: str
    base_sha256: str
    weights: tuple[str, ...]
    trained_on: tuple[str, ...]
    prompts: tuple[str, ...]
    licence: str


def data_of(sweep: Sweep) -> list[Data]:
    """Every store of a plan, fold by fold."""
    from samling.data.splits import fold_in
    from samling.data.store import Store

    found = []
    for name, parts in sweep.parts.items():
        whole = Store.open(fold_in(parts[0][0].path)[0])
        for number, (store, part) in enumerate(parts, start=1):
            found.append(
                Data(
                    data=name,
                    set_name=store.name,
                    fold=number if sweep.plan.folds else 0,
                    content_hash=whole.content_hash,
                    licence=store.licence,
                    split=sweep.plan.split,
                    split_hash=store.splits.hash,
                    split_rule=store.splits.rule,
                    images=len(part.ids),
                    groups=len({store.meta(id).group for id in part.ids}),
                )
            )
    return found


def methods_of(grid: Grid) -> list[Method]:
    """Every method of a grid; in several entries where the models behind its name are of several kinds."""
    found: dict[Method, Method] = {}
    for (store, name, _), cell in grid.items():
        same = _method(name, cell)
        known = found.get(same, same)
        found[same] = replace(
            known,
            data=tuple(dict.fromkeys([*known.data, store])),
            weights=tuple(dict.fromkeys([*known.weights, *filter(_is_hash, cell.weights)])),
        )
    return list(found.values())


def _method(name: str, cell: Measured) -> Method:
    """A method without its data and weights: what cells of one kind of model share."""
    card = cell.card
    return Method(
        method=name,
        data=(),
        card=card["name"],
        base=Path(card["base"]).name,  # it may be the path of a checkpoint
        base_sha256=cell.base_sha256,
        weights=(),
        trained_on=cell.trained_on,
        prompts=tuple(card["prompts"]),
        licence=card["licence"],
    )


def provenance(
    sweep: Sweep,
    grid: Grid,
    data: Sequence[Data],
    methods: Sequence[Method],
    machine: dict[str, Any],
) -> list[Table]:
    """What a reviewer asks: how, on what, of what."""
    plan = sweep.plan
    seconds = sum(found.seconds for found in grid.values())
    folds = f" part of each of {plan.folds} folds" if plan.folds else ""
    how = (
        ("Split", f"{plan.split}{folds}"),
        ("Seeds", ", ".join(map(str, plan.seeds))),
        ("Methods, stores and seeds measured", f"{len(grid)}, {seconds / 60:.1f} minutes in all"),
        ("Machine", f"{machine['machine']}, Python {machine['python']}"),
        ("Versions", ", ".join(f"{k} {v}" for k, v in machine["versions"].items() if v)),
        ("Commit", machine["git_commit"] or "unknown"),
    )
    return [Table(("What", "Value"), how, text_columns=(0, 1)), _data(data), _methods(methods)]


def _data(data: Sequence[Data]) -> Table:
    header = ("Data", "Set", "Content", "Licence", "Part", "Images", "Groups", "Split", "Its rule")
    rows = tuple(
        (
            f"{one.data}, fold {one.fold}" if one.fold else one.data,
            one.set_name,
            one.content_hash[:_SHORT],
            one.licence,
            one.split,
            f"{one.images:,}",
            f"{one.groups:,}",
            one.split_hash[:_SHORT],
            one.split_rule or "not stated",
        )
        for one in data
    )
    caption = (
        "Images with a label, and the groups (patients, look-alikes) they come from. Hashes: the first "
        f"{_SHORT} digits, whole in comparison.json; of the store's content, of which image is in which "
        "part."
    )
    return Table(header, rows, caption, text_columns=(0, 1, 2, 3, 4, 7, 8))


def _methods(methods: Sequence[Method]) -> Table:
    header = ("Method", "Data", "Model", "Base", "Weights", "Trained on", "Prompts", "Licence")
    rows = tuple(
        (
            one.method,
            ", ".join(one.data),
            one.card,
            _base(one),
            _several(one.weights),
            _trained_on(one),
            ", ".join(one.prompts),
            one.licence,
        )
        for one in methods
    )
    caption = (
        "As the models' cards say. Base: what stayed frozen, with the hash of its weights; weights: hash "
        "of the model's files, one for each seed and fold."
    )
    return Table(header, rows, caption, text_columns=tuple(range(len(header))))


def _base(one: Method) -> str:
    known = _is_hash(one.base_sha256) and one.base != "none"
    return f"{one.base}, {one.base_sha256[:_SHORT]}" if known else one.base


def _several(hashes: Sequence[str]) -> str:
    more = f", … ({len(hashes)})" if len(hashes) > _SHOWN else ""
    return ", ".join(one[:_SHORT] for one in hashes[:_SHOWN]) + more or "–"


def _trained_on(one: Method) -> str:
    if one.base_sha256 == "no weights":
        return "nothing"
    return ", ".join(one.trained_on) or "not stated"


def _is_hash(text: str) -> bool:
    """Whether it is a sha256: what tells a model by its name may be a path."""
    return re.fullmatch(r"[0-9a-f]{64}", text) is not None


def without_folders(text: str) -> str:
    """A text whose paths are cut to the names of their files: a page is shown to others.

    >>> without_folders("/srv/me/runs/a.h5 does not exist; see ../../data/b.h5, runs/c")
    'a.h5 does not exist; see b.h5, runs/c'
    """
    return re.sub(r"(?<![\w./])(?:\.\.)?/(?:[^\s/:]+/)+", "", text)
