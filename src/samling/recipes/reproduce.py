"""reproduce: a paper's table with our figures beside it, through `compare`, and why they differ."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from samling.atomic import write_text
from samling.errors import InputError
from samling.recipes.paper_costs import Found, Ours, other_figures
from samling.recipes.papers import Paper, PaperRow, PaperTable, Rerun, read_paper, read_table

Say = Callable[[str], None]


def reproduce(
    name: str,
    table: str,
    data: Mapping[str, Path],
    out: Path,
    changes: Sequence[str] = (),
    *,
    say: Say = print,
) -> Path:
    """Rerun what can be rerun of a table and write `out`/reproduced.md.

    Rows whose data set is given are trained (each once, resumed if stopped) and measured by `compare`
    on validation images; the others stay with the paper's figure and the reason.

    Args:
        name: of the paper. table: of the table, see `papers.read_table`.
        data: stores by the paper's name of the data set.
        out: folder of the page, runs/ and compare/.
        changes: KEY=VALUE of every training.

    Raises:
        InputError: unknown paper, table or data set; a store or recipe that cannot be used.
    """
    paper = read_paper(name)
    wanted = read_table(paper, table)
    known = dict.fromkeys(row.store for row in wanted.rows if row.ours)
    if other := [store for store in data if store not in known]:
        remedy = f"this table has {', '.join(known) or 'none that can be rerun'}"
        raise InputError("--data", f"'{other[0]}' is no data set of {table}", remedy)
    ours: Ours = {}
    if data:
        methods = _train(wanted, data, out, changes, say)
        ours = _measure(wanted, methods, data, out, say)
    page = out / "reproduced.md"
    write_text(page, _page(paper, table, wanted, ours, data, changes))
    return page


def _train(
    table: PaperTable, data: Mapping[str, Path], out: Path, changes: Sequence[str], say: Say
) -> dict[str, str]:
    """Method -> model as a plan names it."""
    from samling.recipes.adapt import adapt
    from samling.recipes.train import train

    methods: dict[str, str] = {}
    for row in table.rows:
        if row.ours is None or row.store not in data:
            continue
        if row.ours.verb == "model":
            methods[row.method] = row.ours.what
            continue
        slug = re.sub(r"[^\w+]+", "-", row.method).strip("-")
        run = out / "runs" / f"{slug}-{row.store}"
        methods[row.method] = f"runs/{slug}-{{store}}"
        settings = [*row.ours.changes, *changes]
        say(f"{row.method} on {row.store}: {_said(row.ours)}")
        if row.ours.verb == "adapt":
            adapt(row.ours.what, [data[row.store]], run, "base", settings, report=say)
        else:
            train(row.ours.what, [data[row.store]], run, settings, report=say)
    return methods


def _measure(
    table: PaperTable, methods: dict[str, str], data: Mapping[str, Path], out: Path, say: Say
) -> Ours:
    from samling.recipes.compare import compare

    plan = {
        "name": f"{table.source}: {table.title}",
        "stores": {n: os.path.relpath(path.resolve(), out.resolve()) for n, path in data.items()},
        "methods": methods,
        "prompts": [table.prompt],
        "published": [
            {"method": r.method, "source": table.source, "store": r.store, "dice": r.dice, "iou": r.iou}
            for r in table.rows
            if r.dice is not None
        ],
    }  # fmt: skip
    write_text(out / "plan.yaml", yaml.safe_dump(plan, sort_keys=False))
    say(compare(out / "plan.yaml", out / "compare", say=say).report.as_posix())
    content = json.loads((out / "compare" / "comparison.json").read_text(encoding="utf-8"))
    return {
        (score["method"], store): Found(score, found["costs"].get(score["method"]))
        for store, found in content["stores"].items()
        for score in found["scores"]
        if score["protocol"] == table.prompt
    }


def _page(
    paper: Paper,
    name: str,
    table: PaperTable,
    ours: Ours,
    data: Mapping[str, Path],
    changes: Sequence[str],
) -> str:
    lines = [
        f"# {name}: {table.title}",
        "",
        f"{paper.title}. {paper.reference}. {table.source}.",
        "",
        f"Ours: validation images, mean over images, prompt `{table.prompt}`"
        + (f", {', '.join(changes)}." if changes else "."),
        *_stores(ours, data),
        "",
        "| method | data | paper: Dice | ours | difference | paper: IoU | ours | difference |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in table.rows:
        found = ours.get((row.method, row.store))
        score = found.score if found else None
        lines.append(
            f"| {row.method} | {row.store or '–'} | {_pair(row.dice, score, 'dice')} | "
            f"{_pair(row.iou, score, 'iou')} |"
        )
    lines += other_figures(table, ours, changes)
    missing = _missing(table, ours, data)
    lines += ["", "## Why they differ", "", table.difference.strip(), ""]
    if table.not_here:
        missing.append(f"- {table.not_here.strip()}")
    if missing:
        lines += ["## Not rerun", "", *missing, ""]
    return "\n".join(lines)


def _stores(ours: Ours, data: Mapping[str, Path]) -> list[str]:
    """What stood in for each data set of the paper: nobody checks that it is the same."""
    from samling.data.store import Store

    return [
        f"{called} is here the store {Store.open(path).name} ({path.name})"
        + (f", {max(counts)} images." if (counts := _counts(ours, called)) else ".")
        for called, path in data.items()
    ]


def _counts(ours: Ours, called: str) -> list[int]:
    return [found.score["n"] for (_, store), found in ours.items() if store == called]


def _pair(published: float | None, score: dict[str, Any] | None, measure: str) -> str:
    """Cells: the paper's, ours with its interval, the difference in points."""
    found = score[measure] if score else None
    theirs = "–" if published is None else f"{100 * published:.2f}"
    if found is None:
        return f"{theirs} | – | –"
    mean, low, high = (100 * found[key] for key in ("mean", "low", "high"))
    gap = "–" if published is None else f"{mean - 100 * published:+.1f}"
    return f"{theirs} | {mean:.1f} ({low:.1f}–{high:.1f}) | {gap}"


def _missing(table: PaperTable, ours: Ours, data: Mapping[str, Path]) -> list[str]:
    return [f"- {row.method}{_where(row)}: {_reason(row, data)}"
            for row in table.rows if (row.method, row.store) not in ours]  # fmt: skip


def _where(row: PaperRow) -> str:
    return f" on {row.store}" if row.store else ""


def _reason(row: PaperRow, data: Mapping[str, Path]) -> str:
    if row.ours is None:
        return "the paper's own figure, with nothing to rerun it from"
    if row.store not in data:
        return f"no data; give --data {row.store}=STORE.h5 ({_said(row.ours)})"
    return "could not be measured, see compare/report.html"


def _said(rerun: Rerun) -> str:
    return " ".join((rerun.verb, rerun.what, *rerun.changes))
