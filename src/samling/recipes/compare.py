"""compare: methods x stores x prompts x seeds from one plan; cached, resumed, one page at the end."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from errno import EDQUOT, ENOSPC, EROFS
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samling.atomic import write_text
from samling.cache import NAMED_MODELS
from samling.config import ComparePlan, load_recipe
from samling.errors import InputError
from samling.evaluation.baselines import BASELINES, baseline
from samling.evaluation.comparison import (
    BOXES,
    COST,
    DAMAGE,
    MATRIX,
    ROBUSTNESS,
    Compound,
    answer,
    dice_values,
    over_seeds,
    page,
    published_table,
    seed_spread,
    tables,
)
from samling.evaluation.cost import Cost
from samling.evaluation.damage import divided
from samling.evaluation.formats import csv_text, latex, markdown
from samling.evaluation.matrix import drawn_by_lot, write_matrix
from samling.evaluation.paired import compare_methods, corrected
from samling.evaluation.plots import Priced, draw_boxes, draw_cost, draw_damage, draw_robustness
from samling.evaluation.protocols import Asked, expand
from samling.evaluation.report import write_report
from samling.evaluation.run import Row
from samling.evaluation.tables import damage_table, summarise, undamaged, write_values
from samling.models.families import FAMILIES
from samling.recipes.cells import Cell, Measured, measure_cell
from samling.recipes.evaluate import split_part, touch_test
from samling.training.log import environment

if TYPE_CHECKING:
    from samling.data.store import Store

Load = Callable[[str], Asked[Any]]
Progress = Callable[[str], None]
Grid = dict[tuple[str, str, int], Measured]
"""(store, method, seed) -> what was measured; what failed is not there."""


@dataclass(frozen=True)
class Summary:
    """What a comparison left behind.

    Args:
        report: the page.
        failures: what could not be measured, and why.
    """

    report: Path
    failures: tuple[str, ...]

    def __str__(self) -> str:
        """The report's path, after what failed."""
        return "\n".join([*(f"not measured: {text}" for text in self.failures), str(self.report)])


def compare(
    plan: Path, out: Path, *, load: Load | None = None, say: Progress = lambda text: None
) -> Summary:
    """Measure every method of a plan on every store, or read what was measured before.

    A cell (method, store, seed) is written when it is done; a later call measures only what is
    missing or has changed. A cell that fails is listed; the others go on.

    Args:
        plan: YAML of `config.ComparePlan`; paths in it are relative to its folder.
        out: folder of report.html, tables.md, tables.tex, table_*.csv, results.csv,
            comparison.json, pictures and cells/.
        load: gives a segmenter by name; `recipes.load.load` if None.
        say: told how it goes.

    Raises:
        InputError: the plan is unusable: unknown setting, prompt or baseline, a store that cannot
            be opened.
    """
    settings = read_plan(plan)
    protocols = tuple(expand(settings.prompts))
    stores = _open(settings, plan.parent)
    grid, failures = _measure(settings, protocols, stores, plan.parent, out, load, say)
    reference = settings.reference or [*settings.methods, *settings.baselines][0]
    parts = [_compound(name, store, settings, grid, reference, out)
             for name, store in stores.items()]  # fmt: skip
    parts = _one_family(parts)
    report = _write(parts, settings, reference, grid, failures, out)
    return Summary(report, tuple(failures))


def read_plan(path: Path) -> ComparePlan:
    """Read and check a plan.

    Raises:
        InputError: missing, no plan, an unknown baseline, a name used twice, no method at all.
    """
    if not path.is_file():
        raise InputError(path, "does not exist", "give a plan, see samling compare --help")
    plan = load_recipe(ComparePlan, path, [])
    known = ", ".join(BASELINES)
    for name in plan.baselines:
        if name not in BASELINES:
            raise InputError(f"{path} baselines", f"'{name}' is not known", f"use {known}")
    names = [*plan.methods, *plan.baselines]
    if not names:
        raise InputError(f"{path} methods", "are empty", f"name models, or baselines of {known}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{path} methods", f"'{twice[0]}' is there twice", "give each its name")
    if plan.reference and plan.reference not in names:
        remedy = f"name one of {', '.join(names)}"
        raise InputError(f"{path} reference", f"'{plan.reference}' is no method", remedy)
    return plan


def _open(plan: ComparePlan, folder: Path) -> dict[str, "Store"]:
    from samling.data.store import Store

    stores = {name: Store.open(folder / path) for name, path in plan.stores.items()}
    for name, store in stores.items():
        split_part(store, plan.split, folder / plan.stores[name])  # an empty split is found early
    return stores


def _measure(
    plan: ComparePlan,
    protocols: tuple[str, ...],
    stores: dict[str, "Store"],
    folder: Path,
    out: Path,
    load: Load | None,
    say: Progress,
) -> tuple[Grid, list[str]]:
    cells = _cells(plan, protocols, folder)
    grid: Grid = {}
    failures: list[str] = []
    for number, cell in enumerate(cells, start=1):
        where = f"{cell.method} on {cell.store}, seed {cell.seed}"
        say(f"{number}/{len(cells)} {where}")
        store = stores[cell.store]
        part = split_part(store, plan.split, store.path)

        def opened(cell: Cell = cell, store: "Store" = store) -> Asked[Any]:
            segmenter = _segmenter(cell, load)
            if plan.split == "test":
                touch_test(out, cell.method, segmenter.card, store, say)
            return segmenter

        try:
            found = measure_cell(cell, store, part, out / "cells", opened, say)
        except Exception as error:  # one cell's fault must not cost the night
            if isinstance(error, OSError) and error.errno in (ENOSPC, EDQUOT, EROFS):
                raise  # a full disk concerns every cell
            kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
            failures.append(f"{where}: {kind}{' '.join(str(error).split())}")
            say(f"  not measured: {failures[-1]}")
            continue
        grid[cell.store, cell.method, cell.seed] = found
    return grid, failures


def _cells(plan: ComparePlan, protocols: tuple[str, ...], folder: Path) -> list[Cell]:
    """Every cell, method by method. What no seed changes is measured with the first one only."""
    methods = plan.methods | {name: name for name in plan.baselines}
    found = []
    for name, model in methods.items():
        for store in plan.stores:
            for seed in plan.seeds:
                repeats = seed == plan.seeds[0] or "{seed}" in model
                asked = [p for p in protocols if repeats or re.search(r"\d", p.partition("~")[0])]
                path = model.replace("{seed}", str(seed)).replace("{store}", store)
                if name in plan.methods:
                    path = _placed(path, folder)
                if asked:
                    found.append(Cell(store, name, path, seed, tuple(asked)))
    return found


def _placed(model: str, folder: Path) -> str:
    """A model of a plan: a name stays, a path starts at the plan's folder, also behind `family:`."""
    if model.partition("@")[0] in (*NAMED_MODELS, *FAMILIES):
        return model
    family, _, path = model.rpartition(":")
    return f"{family}:{folder / path}" if family in FAMILIES else str(folder / model)


def _segmenter(cell: Cell, load: Load | None) -> Asked[Any]:
    if cell.model in BASELINES:
        return baseline(cell.model)
    if load is not None:
        return load(cell.model)
    from samling.recipes.load import load as by_name

    return by_name(cell.model)


def _compound(
    name: str, store: "Store", plan: ComparePlan, grid: Grid, reference: str, out: Path
) -> Compound:
    """One data set: rows over seeds, scores, tests, pictures."""
    by_seed: dict[int, list[Row]] = {seed: [] for seed in plan.seeds}
    costs: dict[str, Cost] = {}
    for (where, method, seed), found in grid.items():
        if where == name:
            for protocol in expand(plan.prompts):
                by_seed[seed] += found.rows.get(protocol, [])
            if found.cost:
                costs.setdefault(method, found.cost)
    order = {protocol: i for i, protocol in enumerate(expand(plan.prompts))}
    rows = sorted(over_seeds(by_seed), key=lambda row: order[row.protocol])
    every = summarise(rows, 0, plan.mean)
    scores = undamaged(every)
    rows = [row for row in rows if not divided(row.protocol)[1]]
    first = next(iter(order))
    slug = re.sub(r"\W+", "-", name)
    priced = [
        Priced(s.method, s.dice, costs[s.method].ms, costs[s.method].parameters)
        for s in scores
        if s.protocol == first and s.dice and s.method in costs
    ]
    drawn = {
        DAMAGE: draw_damage(every, out / f"damage_{slug}.png"),
        ROBUSTNESS: draw_robustness(scores, out / f"robustness_{slug}.png"),
        BOXES: draw_boxes(dice_values(rows), out / f"boxes_{slug}.png"),
        COST: draw_cost(priced, out / f"cost_{slug}.png"),
        MATRIX: _matrix(name, store, plan, grid, out / f"overlays_{slug}.png"),
    }
    return Compound(
        store=name,
        rows=rows,
        scores=scores,
        tests=compare_methods(rows, reference, 0, plan.mean),
        spread=seed_spread(by_seed),
        costs=costs,
        damage=damage_table(every),
        pictures={title: path for title, path in drawn.items() if path is not None},
    )


def _matrix(name: str, store: "Store", plan: ComparePlan, grid: Grid, path: Path) -> Path | None:
    ids = drawn_by_lot(split_part(store, plan.split, store.path).ids)
    protocol = expand(plan.prompts)[0]
    answers: dict[str, dict[str, Any]] = {}
    for (where, method, seed), found in grid.items():
        if where == name and seed == plan.seeds[0]:
            dice = {row.id: row.dice for row in found.rows.get(protocol, [])}
            kept = {id: found.answer(protocol, id) for id in ids}
            answers[method] = {
                id: (*shown, dice[id] or 0.0) for id, shown in kept.items() if shown is not None
            }
    return write_matrix(path, store, ids, answers)


def _one_family(parts: Sequence[Compound]) -> list[Compound]:
    """Correct the tests of all data sets together."""
    together = iter(corrected([test for part in parts for test in part.tests]))
    return [replace(part, tests=[next(together) for _ in part.tests]) for part in parts]


def _write(
    parts: Sequence[Compound],
    plan: ComparePlan,
    reference: str,
    grid: Grid,
    failures: list[str],
    out: Path,
) -> Path:
    names = ["store", "seed", *(item.name for item in fields(Row))]
    write_values(
        out / "results.csv",
        names,
        (
            {"store": store, "seed": seed, **asdict(row)}
            for (store, _, seed), found in grid.items()
            for rows in found.rows.values()
            for row in rows
        ),
    )
    named = [(f"{part.store}: {title}", table)
             for part in parts for title, table in tables(part, reference, plan.mean)]  # fmt: skip
    if (published := published_table(plan.published)) is not None:
        named.append(("Published figures", published))
    text = "\n".join(f"## {title}\n\n{markdown(table)}" for title, table in named)
    missing = "".join(f"- not measured: {failure}\n" for failure in failures)
    write_text(out / "tables.md", f"# {plan.name}\n\n{text}\n{missing}")
    write_text(
        out / "tables.tex", "\n".join(f"% {title}\n{latex(table)}" for title, table in named)
    )
    for title, table in named:
        slug = re.sub(r"\W+", "-", title.lower()).strip("-")
        write_text(out / f"table_{slug}.csv", csv_text(table))
    machine = environment()
    _write_json(out / "comparison.json", parts, plan, failures, machine)
    seconds = sum(found.seconds for found in grid.values())
    provenance = [
        ("Split", plan.split),
        ("Seeds", ", ".join(map(str, plan.seeds))),
        ("Cells measured", f"{len(grid)}, {seconds / 60:.1f} minutes in all"),
        ("Machine", f"{machine['machine']}, Python {machine['python']}"),
        ("Versions", ", ".join(f"{k} {v}" for k, v in machine["versions"].items() if v)),
        ("Commit", machine["git_commit"] or "unknown"),
    ]
    sections = page(parts, reference, plan.mean, plan.published, failures, provenance)
    footer = "Made by samling compare. Research software, not a medical device."
    lead = answer(parts, reference)
    return write_report(out / "report.html", plan.name, lead, sections, footer=footer)


def _write_json(
    path: Path,
    parts: Sequence[Compound],
    plan: ComparePlan,
    failures: list[str],
    machine: dict[str, Any],
) -> None:
    content = {
        "schema": 1,
        "plan": plan.model_dump(mode="json"),
        "stores": {
            part.store: {
                "scores": [asdict(score) for score in part.scores],
                "paired_tests": [asdict(test) for test in part.tests],
                "costs": {method: asdict(cost) for method, cost in part.costs.items()},
            }
            for part in parts
        },
        "failures": failures,
        "environment": machine,
    }
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
