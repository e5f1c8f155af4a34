"""compare: methods x stores x prompts x seeds from one plan; cached, resumed, one page at the end."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from samling.atomic import write_text
from samling.config import ComparePlan
from samling.evaluation.comparison import (
    BOXES,
    COST,
    DAMAGE,
    MATRIX,
    ROBUSTNESS,
    Compound,
    answer,
    contradictions,
    counts_over_seeds,
    dice_values,
    fold_table,
    over_seeds,
    page,
    published_table,
    seed_spread,
    tables,
    untested,
)
from samling.evaluation.cost import Cost
from samling.evaluation.damage import divided
from samling.evaluation.drop import drop_table
from samling.evaluation.formats import csv_text, latex, markdown, slug
from samling.evaluation.matrix import drawn_by_lot, write_matrix
from samling.evaluation.paired import compare_methods, corrected
from samling.evaluation.plots import Priced, draw_boxes, draw_cost, draw_damage, draw_robustness
from samling.evaluation.protocols import expand
from samling.evaluation.report import write_report
from samling.evaluation.run import Row
from samling.evaluation.tables import summarise, undamaged, write_values
from samling.recipes.costs import measure_costs
from samling.recipes.provenance import Data, data_of, methods_of, provenance, without_folders
from samling.recipes.sweep import Grid, Load, Progress, Sweep
from samling.training.log import environment


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
    plan: Path,
    out: Path,
    *,
    load: Load | None = None,
    ray: bool = False,
    say: Progress = lambda text: None,
) -> Summary:
    """Measure every method of a plan on every store, or read what was measured before.

    A cell (method, store, seed) is written when it is done; a later call measures only what is
    missing or has changed. A cell that fails is listed; the others go on.

    Args:
        plan: YAML of `config.ComparePlan`; paths in it are relative to its folder.
        out: folder of report.html, tables.md, tables.tex, table_*.csv, results.csv,
            comparison.json, pictures, costs.json and cells/.
        load: gives a segmenter by name; `recipes.load.load` if None.
        ray: measure cells on the processors of a Ray cluster, which see the same files under the same
            names. Times are taken here, afterwards.
        say: told how it goes.

    Raises:
        InputError: the plan is unusable: unknown setting, prompt or baseline, a store that cannot
            be opened; Ray is not installed, or asked to look at test images.
        ValueError: `load` and `ray` together.
    """
    sweep = Sweep(plan, out, load)
    if ray and load is not None:
        raise ValueError("workers of a cluster load models by name")
    if ray:
        sweep.on_ray()
    grid, failures = sweep.measure_all(say)
    settings = sweep.plan
    reference = settings.reference or [*settings.methods, *settings.baselines][0]
    costs, untimed = measure_costs(sweep, grid, say)
    failures += untimed
    parts = [_compound(name, sweep, grid, reference, costs[name]) for name in sweep.parts]
    parts = _one_family(parts)
    caveats = [*untested(parts, reference), *settings.notes, *sweep.caveats(grid)]
    for text in contradictions(parts):
        say(text)
    report = _write(parts, sweep, reference, grid, failures, caveats)
    return Summary(report, tuple(failures))


def _compound(
    name: str, sweep: Sweep, grid: Grid, reference: str, costs: dict[str, Cost]
) -> Compound:
    """One data set: rows over seeds, scores, tests, pictures."""
    plan, out = sweep.plan, sweep.out
    by_seed: dict[int, list[Row]] = {seed: [] for seed in plan.seeds}
    for (where, _, seed), found in grid.items():
        for protocol in expand(plan.prompts) if where == name else ():
            by_seed[seed] += found.rows.get(protocol, [])
    order = {protocol: i for i, protocol in enumerate(expand(plan.prompts))}
    rows = sorted(over_seeds(by_seed), key=lambda row: order[row.protocol])
    every = counts_over_seeds(summarise(rows, 0, plan.mean), by_seed)
    scores = undamaged(every)
    all_rows = rows
    rows = [row for row in rows if not divided(row.protocol)[1]]
    first = next(iter(order))
    safe = re.sub(r"\W+", "-", name)
    priced = [
        Priced(s.method, s.dice, cost.ms, cost.parameters, cost.file_mb)
        for s in scores
        if s.protocol == first and s.dice and (cost := costs.get(s.method))
    ]
    methods = [*plan.methods, *plan.baselines]  # each has one colour on the whole page
    drawn = {
        DAMAGE: draw_damage(all_rows, out / f"damage_{safe}.png", plan.mean, methods),
        ROBUSTNESS: draw_robustness(scores, out / f"robustness_{safe}.png", methods),
        BOXES: draw_boxes(dice_values(rows), out / f"boxes_{safe}.png", methods),
        COST: draw_cost(priced, out / f"cost_{safe}.png", methods=methods),
        MATRIX: _matrix(name, sweep, grid, out / f"overlays_{safe}.png"),
    }
    return Compound(
        store=name,
        rows=rows,
        scores=scores,
        tests=compare_methods(rows, reference, 0, plan.mean),
        spread=seed_spread(by_seed),
        folds=fold_table(rows, sweep.folds(name)),
        costs=costs,
        damage=drop_table(all_rows, plan.mean),
        missing=_missing_seeds(name, sweep, grid),
        wrong=[score for score in every if not score.consistent],
        pictures={title: path for title, path in drawn.items() if path is not None},
    )


def _missing_seeds(name: str, sweep: Sweep, grid: Grid) -> dict[tuple[str, str], tuple[int, int]]:
    """(protocol, method) -> seeds measured and planned, where a cell failed but not all did."""
    planned: dict[tuple[str, str], set[int]] = {}
    for cell in sweep.cells:
        for protocol in cell.protocols if cell.store == name else ():
            planned.setdefault((protocol, cell.method), set()).add(cell.seed)
    answered = {
        (protocol, method, seed)
        for (where, method, seed), found in grid.items()
        for protocol, rows in found.rows.items()
        if where == name and rows
    }
    found = {key: sum((*key, seed) in answered for seed in seeds) for key, seeds in planned.items()}
    return {key: (n, len(planned[key])) for key, n in found.items() if 0 < n < len(planned[key])}


def _matrix(name: str, sweep: Sweep, grid: Grid, path: Path) -> Path | None:
    plan, ids = sweep.plan, drawn_by_lot(sweep.ids(name))
    protocol = expand(plan.prompts)[0]
    answers: dict[str, dict[str, Any]] = {}
    for (where, method, seed), found in grid.items():
        if where == name and seed == plan.seeds[0]:
            dice = {row.id: row.dice for row in found.rows.get(protocol, [])}
            kept = {id: found.answer(protocol, id) for id in ids}
            answers[method] = {
                id: (*shown, dice[id] or 0.0) for id, shown in kept.items() if shown is not None
            }
    return write_matrix(path, sweep.parts[name][0][0], ids, answers)


def _one_family(parts: Sequence[Compound]) -> list[Compound]:
    """Correct the tests of all data sets together."""
    together = iter(corrected([test for part in parts for test in part.tests]))
    return [replace(part, tests=[next(together) for _ in part.tests]) for part in parts]


def _write(
    parts: Sequence[Compound],
    sweep: Sweep,
    reference: str,
    grid: Grid,
    failures: list[str],
    caveats: list[str],
) -> Path:
    plan, out = sweep.plan, sweep.out
    failures = [without_folders(text) for text in failures]
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
    wrong = contradictions(parts)
    warning = "".join(f"{text}\n\n" for text in (*wrong, *caveats))
    write_text(out / "tables.md", f"# {plan.name}\n\n{warning}{text}\n{missing}")
    write_text(out / "tables.tex", "\n".join(latex(table, title) for title, table in named))
    for title, table in named:
        write_text(out / f"table_{slug(title)}.csv", csv_text(table))
    machine, data, methods = environment(), data_of(sweep), methods_of(grid)
    about = {"failures": failures, "caveats": caveats, "methods": [asdict(one) for one in methods]}
    _write_json(out / "comparison.json", parts, plan, data, about | {"environment": machine})
    made = provenance(sweep, grid, data, methods, machine)
    sections = page(parts, reference, plan.mean, plan.published, failures, made)
    footer = "Made by samling compare. Research software, not a medical device."
    return write_report(
        out / "report.html", plan.name, _lead(parts, reference, caveats), sections, footer=footer
    )


def _lead(parts: Sequence[Compound], reference: str, caveats: Sequence[str]) -> str:
    said = [answer(parts, reference), *caveats]
    if any(part.wrong for part in parts):
        said.insert(0, "Some figures below cannot be: don't use this page before they are mended.")
    return " ".join(said)


def _write_json(
    path: Path,
    parts: Sequence[Compound],
    plan: ComparePlan,
    data: Sequence[Data],
    about: dict[str, Any],
) -> None:
    asked = plan.model_dump(mode="json")
    for places in (asked["stores"], asked["methods"]):
        places.update({name: without_folders(place) for name, place in places.items()})
    content = {
        "schema": 2,
        "plan": asked,
        "stores": {
            part.store: {
                "data": [asdict(one) for one in data if one.data == part.store],
                "scores": [asdict(score) for score in part.scores],
                "paired_tests": [asdict(test) for test in part.tests],
                "costs": {method: asdict(cost) for method, cost in part.costs.items()},
                "seed_spread": [
                    {"protocol": protocol, "method": method, "deviation": value}
                    for (protocol, method), value in part.spread.items()
                ],
                "seeds_missing": [
                    {"protocol": protocol, "method": method, "measured": n, "planned": planned}
                    for (protocol, method), (n, planned) in part.missing.items()
                ],
            }
            for part in parts
        },
        "contradictions": [
            {"store": part.store, "method": score.method, "protocol": score.protocol}
            for part in parts
            for score in part.wrong
        ],
    }
    write_text(path, json.dumps(content | about, indent=2, allow_nan=False) + "\n")
