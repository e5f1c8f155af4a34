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
    counts_over_seeds,
    dice_values,
    fold_table,
    over_seeds,
    page,
    published_table,
    seed_spread,
    tables,
)
from samling.evaluation.cost import Cost
from samling.evaluation.damage import divided
from samling.evaluation.drop import drop_table
from samling.evaluation.formats import csv_text, latex, markdown
from samling.evaluation.matrix import drawn_by_lot, write_matrix
from samling.evaluation.paired import compare_methods, corrected
from samling.evaluation.plots import Priced, draw_boxes, draw_cost, draw_damage, draw_robustness
from samling.evaluation.protocols import expand
from samling.evaluation.report import write_report
from samling.evaluation.run import Row
from samling.evaluation.tables import summarise, undamaged, write_values
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
            comparison.json, pictures and cells/.
        load: gives a segmenter by name; `recipes.load.load` if None.
        ray: measure cells on the processors of a Ray cluster, which see the same files under the same
            names. Milliseconds are then those of busy processors.
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
    parts = [_compound(name, sweep, grid, reference) for name in sweep.parts]
    parts = _one_family(parts)
    caveats = [*settings.notes, *sweep.caveats(grid)]
    report = _write(parts, settings, reference, grid, failures, caveats, out)
    return Summary(report, tuple(failures))


def _compound(name: str, sweep: Sweep, grid: Grid, reference: str) -> Compound:
    """One data set: rows over seeds, scores, tests, pictures."""
    plan, out = sweep.plan, sweep.out
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
    every = counts_over_seeds(summarise(rows, 0, plan.mean), by_seed)
    scores = undamaged(every)
    all_rows = rows
    rows = [row for row in rows if not divided(row.protocol)[1]]
    first = next(iter(order))
    slug = re.sub(r"\W+", "-", name)
    priced = [
        Priced(s.method, s.dice, costs[s.method].ms, costs[s.method].parameters)
        for s in scores
        if s.protocol == first and s.dice and s.method in costs
    ]
    drawn = {
        DAMAGE: draw_damage(all_rows, out / f"damage_{slug}.png", plan.mean),
        ROBUSTNESS: draw_robustness(scores, out / f"robustness_{slug}.png"),
        BOXES: draw_boxes(dice_values(rows), out / f"boxes_{slug}.png"),
        COST: draw_cost(priced, out / f"cost_{slug}.png"),
        MATRIX: _matrix(name, sweep, grid, out / f"overlays_{slug}.png"),
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
        pictures={title: path for title, path in drawn.items() if path is not None},
    )


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
    plan: ComparePlan,
    reference: str,
    grid: Grid,
    failures: list[str],
    caveats: list[str],
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
    warning = "".join(f"{caveat}\n\n" for caveat in caveats)
    write_text(out / "tables.md", f"# {plan.name}\n\n{warning}{text}\n{missing}")
    write_text(
        out / "tables.tex", "\n".join(f"% {title}\n{latex(table)}" for title, table in named)
    )
    for title, table in named:
        slug = re.sub(r"\W+", "-", title.lower()).strip("-")
        write_text(out / f"table_{slug}.csv", csv_text(table))
    machine = environment()
    _write_json(out / "comparison.json", parts, plan, failures, caveats, machine)
    sections = page(
        parts, reference, plan.mean, plan.published, failures, _provenance(plan, grid, machine)
    )
    footer = "Made by samling compare. Research software, not a medical device."
    lead = " ".join([answer(parts, reference), *caveats])
    return write_report(out / "report.html", plan.name, lead, sections, footer=footer)


def _provenance(plan: ComparePlan, grid: Grid, machine: dict[str, Any]) -> list[tuple[str, str]]:
    seconds = sum(found.seconds for found in grid.values())
    folds = f" part of each of {plan.folds} folds" if plan.folds else ""
    return [
        ("Split", f"{plan.split}{folds}"),
        ("Seeds", ", ".join(map(str, plan.seeds))),
        ("Cells measured", f"{len(grid)}, {seconds / 60:.1f} minutes in all"),
        ("Machine", f"{machine['machine']}, Python {machine['python']}"),
        ("Versions", ", ".join(f"{k} {v}" for k, v in machine["versions"].items() if v)),
        ("Commit", machine["git_commit"] or "unknown"),
    ]


def _write_json(
    path: Path,
    parts: Sequence[Compound],
    plan: ComparePlan,
    failures: list[str],
    caveats: list[str],
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
                "seed_spread": [
                    {"protocol": protocol, "method": method, "deviation": value}
                    for (protocol, method), value in part.spread.items()
                ],
            }
            for part in parts
        },
        "failures": failures,
        "caveats": caveats,
        "environment": machine,
    }
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
