"""prepare: from a folder of images and masks to a store, with every file checked and no leaks."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from samling.atomic import write_text
from samling.data.sources.entry import Listing, Problem
from samling.data.sources.layouts import read_layout
from samling.data.splits import PARTS
from samling.errors import InputError
from samling.recipes.survey import Plan, Survey, plan_split

BY = ("group", "slice", "block")


@dataclass(frozen=True)
class PrepareReport:
    """What prepare found, made and left out. `text` is for people, `to_dict` for files."""

    name: str
    layout: str
    store: str
    content_hash: str
    classes: tuple[str, ...]
    licence: str
    cases: int
    table: dict[str, dict[str, int]]
    groups: int
    duplicates: Sequence[tuple[str, str, float]]
    split_rule: str
    split_hash: str
    notes: Sequence[str]
    problems: Sequence[Problem]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def text(self) -> str:
        """One screen: counts, groups, problems by kind with one example each."""
        lines = [
            f"{self.name}: {self.cases} cases in {self.groups} groups, layout '{self.layout}'",
            f"  classes      {', '.join(self.classes)}",
            f"  duplicates   {len(self.duplicates)} near-duplicate pairs, kept on one side",
            f"  split        {self.split_rule} (hash {self.split_hash[:12]})",
        ]
        for part in PARTS:
            count = self.table.get(part, {})
            kinds = ", ".join(f"{kind or 'all'} {number}" for kind, number in sorted(count.items()))
            lines.append(f"  {part:<12} {sum(count.values()):>5}   {kinds}")
        lines += [f"  note         {note}" for note in self.notes]
        lines += _problem_lines(self.problems)
        if self.store:
            lines.append(f"  store        {self.store} (content {self.content_hash[:12]})")
        return "\n".join(lines)


def prepare(
    data: str | Path,
    out: str | Path,
    layout: str | None = None,
    *,
    name: str | None = None,
    seed: int = 0,
    by: str = "group",
    empty: int = 0,
) -> PrepareReport:
    """Check every file of a data set, split it by group and write a store, and `<out>.report.json`.

    Args:
        data: folder of the data set.
        out: the store to write; an existing one is replaced when the new one is complete.
        layout: see `samling.data.sources.layouts`; None: found by looking.
        name: name of the data set; default: the folder's name.
        seed: of the split, where the data set does not bring its own and none is committed.
        by: what stays on one side of the split: `group` (patients and near-duplicates); `slice`: nothing,
            as in papers that split slices at random, to show what that is worth; `block`: slices that
            follow each other, for a single patient. The last two leak, and say so.
        empty: of the slices of volumes that show no class every so many one is kept, so that a model
            learns where an organ is not; 0: none.

    Raises:
        InputError: nothing usable, a split that leaks, or the store cannot be written.
    """
    from samling.data.store import writing  # h5py belongs to the train extra

    if by not in BY:
        raise InputError("--split-by", f"'{by}' is not known", f"use {', '.join(BY)}")
    data, out = Path(data), Path(out)
    layout, listing = read_layout(data, layout)
    name = name or data.resolve().name
    survey = Survey()
    with writing(out, name=name, classes=listing.classes, licence=listing.licence) as writer:
        survey.read(listing, data, writer.add, empty)
        plan = plan_split(survey, listing, data, name, seed, by)
        groups = {row.id: row.group for row in plan.rows}
        classes = _class_names(listing.classes, survey.highest_class)
        content = writer.finish(plan.splits, groups, classes)
    done = _report(survey, plan, name=name, layout=layout, listing=listing)
    done = replace(done, store=str(out), content_hash=content)
    _write_report(done, Path(f"{out}.report.json"))
    return done


def check(data: str | Path, layout: str | None = None) -> PrepareReport:
    """The checks of `prepare` without writing anything; errors as there."""
    data = Path(data)
    layout, listing = read_layout(data, layout)
    name = data.resolve().name
    survey = Survey()
    survey.read(listing, data, lambda case: None)
    plan = plan_split(survey, listing, data, name, 0)
    return _report(survey, plan, name=name, layout=layout, listing=listing)


def _report(
    survey: Survey, plan: Plan, *, name: str, layout: str, listing: Listing
) -> PrepareReport:
    category = {row.id: row.category for row in plan.rows}
    table = {part: dict(Counter(category[id] for id in plan.splits.ids(part))) for part in PARTS}
    ids = [row.id for row in plan.rows]
    return PrepareReport(
        name=name,
        layout=layout,
        store="",
        content_hash="",
        classes=_class_names(listing.classes, survey.highest_class),
        licence=listing.licence,
        cases=len(plan.rows),
        table=table,
        groups=len({row.group for row in plan.rows}),
        duplicates=[(ids[pair.first], ids[pair.second], pair.similarity) for pair in plan.pairs],
        split_rule=plan.splits.rule,
        split_hash=plan.splits.hash,
        notes=plan.notes,
        problems=survey.problems,
    )


def _write_report(report: PrepareReport, path: Path) -> None:
    try:
        write_text(path, json.dumps(report.to_dict(), indent=1) + "\n")
    except OSError as error:
        raise InputError(
            path, f"cannot be written ({error})", "free space or write elsewhere"
        ) from error


def _class_names(known: tuple[str, ...], highest: int) -> tuple[str, ...]:
    """Names for all class numbers found: masks may hold more classes than the source could know."""
    return known + tuple(f"class_{number}" for number in range(len(known) + 1, highest + 1))


def _problem_lines(problems: Sequence[Problem]) -> Iterator[str]:
    kinds: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        kinds.setdefault((problem.severity, problem.reason), []).append(problem)
    order = {"error": 0, "warning": 1, "info": 2}
    for (severity, reason), found in sorted(kinds.items(), key=lambda item: order[item[0][0]]):
        files = found[0].file if len(found) == 1 else f"{len(found)} files, first {found[0].file}"
        remedy = "" if severity == "info" else f". Remedy: {found[0].remedy}"
        yield f"  {severity:<12} {files}: {reason}{remedy}"
