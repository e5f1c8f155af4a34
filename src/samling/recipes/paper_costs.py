"""paper_costs: what else the papers' tables have (weights, operations, times, outlines), ours beside it."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from samling.config import AdaptRecipe, load_recipe
from samling.errors import InputError
from samling.recipes.papers import PaperRow, PaperTable, Rerun
from samling.training.log import environment


@dataclass(frozen=True)
class Found:
    """What was measured of a row: its score and its cost, as comparison.json has them."""

    score: dict[str, Any]
    cost: dict[str, Any] | None


@dataclass(frozen=True)
class Counts:
    """Weights: of the whole model with its adapter, and of the adapter alone (None: it has none)."""

    all: int
    adapter: int | None


Ours = Mapping[tuple[str, str], Found]
"""(method, store) -> what was measured."""


def other_figures(table: PaperTable, ours: Ours, changes: Sequence[str]) -> list[str]:
    """Lines of Markdown; none if the table has nothing but Dice and IoU.

    Args:
        ours: what was measured; weights are counted without it.
        changes: KEY=VALUE of every training.
    """
    names = list(dict.fromkeys(name for row in table.rows for name in row.other))
    if not names:
        return []
    header = " | ".join(f"paper: {name} | ours" for name in names)
    lines = ["", f"| method | data | {header} |", "| --- | --- |" + " --- | --- |" * len(names)]
    for row in table.rows:
        beside = _beside(row, ours.get((row.method, row.store)), names, changes)
        pairs = " | ".join(
            f"{_text(row.other.get(name))} | {cell}"
            for name, cell in zip(names, beside, strict=True)
        )
        lines.append(f"| {row.method} | {row.store or '–'} | {pairs} |")
    notes = [f"- {name}, ours: {note}" for name, note in _notes().items() if name in names]
    return [*lines, "", *notes]


def counted(rerun: Rerun, changes: Sequence[str]) -> Counts | None:
    """Weights of what a row is rerun with, untrained; None if it cannot be built here.

    Networks from scratch are left out: no table of theirs counts weights.
    """
    if importlib.util.find_spec("torch") is None:
        return None
    from samling.recipes.build import load_base, load_torch, trainee

    try:
        if rerun.verb == "model":
            model, _ = load_torch(rerun.what)
            return Counts(sum(weight.numel() for weight in model.parameters()), None)
        if rerun.verb == "adapt":
            recipe = load_recipe(AdaptRecipe, rerun.what, [*rerun.changes, *changes])
            base = load_base("base").model
            made = trainee(base, recipe.adapter, train_encoder=recipe.train_encoder)
            whole = sum(weight.numel() for weight in made.model.parameters())
            own = made.injection.parameters() if made.injection else []
            return Counts(whole, sum(weight.numel() for weight in own))
    except InputError:  # a checkpoint that is not here
        pass
    return None


def _beside(
    row: PaperRow, found: Found | None, names: Sequence[str], changes: Sequence[str]
) -> list[str]:
    """Our figures of a row, one for each of the paper's columns."""
    wanted = any(name in _OF_COUNTS for name in names) and row.ours is not None
    counts = counted(row.ours, changes) if wanted and row.ours else None
    ways: dict[str, Callable[[], str]] = {
        name: partial(way, counts) for name, way in _OF_COUNTS.items() if counts
    }
    if found is not None:
        ways |= {name: partial(way, found) for name, way in _OF_FOUND.items()}
    return [ways[name]() if name in ways else "–" for name in names]


def _adapter(counts: Counts) -> str:
    return "–" if counts.adapter is None else f"{counts.adapter / 1e3:.1f}"


def _gflops(found: Found) -> str:
    macs = found.cost and found.cost["macs"]
    return f"{2 * macs / 1e9:.1f}" if macs else "–"


def _ms(found: Found) -> str:
    cost = found.cost
    return "–" if cost is None else f"{cost['encode_ms'] + cost['decode_ms']:.1f}"


def _hd(found: Found) -> str:
    px, mm = found.score["hd_px"], found.score["hd_mm"]
    if px is None:
        return "–"
    return f"{px['mean']:.1f} px" + (f", {mm['mean']:.1f} mm" if mm else "")


_OF_COUNTS: dict[str, Callable[[Counts], str]] = {
    "params M": lambda counts: f"{counts.all / 1e6:.2f}",
    "adapter K": _adapter,
}
_OF_FOUND: dict[str, Callable[[Found], str]] = {"GFLOPs": _gflops, "ms": _ms, "HD": _hd}
"""Columns as the papers' files name them -> ours."""


def _notes() -> dict[str, str]:
    """Column -> what ours are, and how far the two can be compared."""
    machine = environment()["machine"]
    return {
        "params M": "all weights of the model with its adapter; counted, no data needed.",
        "adapter K": "the adapter's weights alone, without the automatic prompt and its presence score "
        "that are trained along; counted, no data needed.",
        "GFLOPs": "of one image with one prompt, a multiply-add counted as two (1 GMAC = 2 GFLOPs); the "
        "paper does not say how it counts.",
        "ms": f"median of one image with one prompt on the machine that measured ({machine}); the paper's "
        "are its own machine's: compare within a column, not across.",
        "HD": "mean over images of the plain Hausdorff distance, in px of the image, and in mm where pixel "
        "sizes are known; the paper states no unit.",
    }


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"
