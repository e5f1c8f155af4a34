"""prepare: from a folder of images and masks to a store, with every file checked and no leaks."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from samling.atomic import write_text
from samling.data.case import Case
from samling.data.case_meta import CaseMeta
from samling.data.checks import check_entries, relative
from samling.data.duplicates import Pair, merge_groups, near_duplicates, thumbnail
from samling.data.sources.entry import Listing, Problem
from samling.data.sources.layouts import read_layout
from samling.data.splits import (
    PARTS,
    Splits,
    assign_rest,
    committed_splits,
    crossing_groups,
    refuse_leaks,
    split_by_group,
    without_groups,
)
from samling.data.volume_checks import check_volumes
from samling.errors import InputError

T = TypeVar("T")
BY = ("group", "slice", "block")
COMMITTED_SHARE = 0.9
"""Share of the ids that a committed split must know: a few equal names are no public set."""


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
    report: str | Path | None = None,
    by: str = "group",
) -> PrepareReport:
    """Check every file of a data set, split it by group and write a store.

    Args:
        data: folder of the data set.
        out: the store to write; an existing one is replaced when the new one is complete.
        layout: see `samling.data.sources.layouts`; None: found by looking.
        name: name of the data set; default: the folder's name.
        seed: of the split, where the data set does not bring its own and none is committed.
        report: where the report goes as JSON; default: `<out>.report.json`.
        by: what stays on one side of the split: `group` (patients and near-duplicates); `slice`: nothing,
            as in papers that split slices at random, to show what that is worth; `block`: slices that
            follow each other, for a single patient. The last two leak, and say so.

    Raises:
        InputError: nothing usable, a split that leaks, or the store cannot be written.
    """
    from samling.data.store import writing  # h5py belongs to the train extra

    if by not in BY:
        raise InputError("--split-by", f"'{by}' is not known", f"use {', '.join(BY)}")
    data, out = Path(data), Path(out)
    layout, listing = read_layout(data, layout)
    name = name or data.resolve().name
    survey = _Survey()
    with writing(out, name=name, classes=listing.classes, licence=listing.licence) as writer:
        survey.read(listing, data, writer.add)
        plan = _plan(survey, listing, data, name, seed, by)
        groups = {row.id: row.group for row in plan.rows}
        classes = _class_names(listing.classes, survey.highest_class)
        content = writer.finish(plan.splits, groups, classes)
    done = _report(survey, plan, name=name, layout=layout, listing=listing)
    done = replace(done, store=str(out), content_hash=content)
    _write_report(done, Path(report or f"{out}.report.json"))
    return done


def check(data: str | Path, layout: str | None = None) -> PrepareReport:
    """The checks of `prepare` without writing anything; errors as there."""
    data = Path(data)
    layout, listing = read_layout(data, layout)
    name = data.resolve().name
    survey = _Survey()
    survey.read(listing, data, lambda case: None)
    plan = _plan(survey, listing, data, name, 0)
    return _report(survey, plan, name=name, layout=layout, listing=listing)


@dataclass
class _Survey:
    """What is remembered of the cases once their pixels are gone."""

    rows: list[CaseMeta] = field(default_factory=list)
    thumbnails: list[NDArray[np.float32]] = field(default_factory=list)
    parts: dict[str, str | None] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    highest: dict[str, int] = field(default_factory=dict)

    @property
    def highest_class(self) -> int:
        """Of all labels."""
        return max(self.highest.values(), default=0)

    def read(self, listing: Listing, root: Path, keep: Callable[[Case], None]) -> None:
        self.problems += [relative(problem, root) for problem in listing.problems]
        scans = check_volumes(_progress(listing.volumes), len(listing.classes), root)
        for checked in chain(check_entries(_progress(listing.entries), root), scans):
            self.problems += checked.problems
            case = checked.case
            if case is None:
                continue
            keep(case)
            self.rows.append(CaseMeta.of(case))
            self.thumbnails.append(thumbnail(case.image))
            self.parts[case.id] = checked.entry.part
            self.highest[case.id] = 0 if case.labels is None else int(case.labels.max())
        if not self.rows:
            errors = [problem for problem in self.problems if problem.severity == "error"]
            first = errors[0] if errors else Problem(str(root), "no image was found", "add images")
            problem = f"has nothing usable: {len(errors)} problems, first {first.file}: "
            raise InputError(root, problem + first.reason, first.remedy)


@dataclass(frozen=True)
class _Plan:
    rows: Sequence[CaseMeta]
    pairs: Sequence[Pair]
    splits: Splits
    notes: Sequence[str]


def _plan(
    survey: _Survey, listing: Listing, root: Path, name: str, seed: int, by: str = "group"
) -> _Plan:
    """Groups from what is known and what looks alike; then the split."""
    pairs = near_duplicates(survey.thumbnails, [row.modality for row in survey.rows])
    patients = [row.patient for row in survey.rows]
    groups = merge_groups([row.group for row in survey.rows], pairs, patients)
    rows = [replace(row, group=group) for row, group in zip(survey.rows, groups, strict=True)]
    notes: list[str] = []
    if by != "group":
        return _Plan(rows, pairs, _leaking_split(rows, survey.highest, by, seed, notes), notes)
    if any(survey.parts.values()):
        splits = _given_split(rows, survey.parts, listing, root, seed, notes)
    elif committed := _committed_for(rows, (name, listing.public_name), notes):
        splits = _committed_split(rows, committed, notes)
    else:
        splits = split_by_group(rows, seed=seed)
    if len(rows) > 1 and len(set(groups)) == 1:
        notes.append(
            "all cases are one group and on one side of the split; where an anonymised PatientID "
            "is the reason, name the patients in meta.csv, column case_id"
        )
    if not any(row.patient or row.group for row in survey.rows) and not listing.official:
        notes.append(
            "no patient is known: images of one patient may be on both sides of the split, unless they "
            "look alike; name the patients in meta.csv, column case_id"
        )
    return _Plan(rows, pairs, splits, notes)


def _leaking_split(
    rows: Sequence[CaseMeta], highest: Mapping[str, int], by: str, seed: int, notes: list[str]
) -> Splits:
    """Slices or blocks of slices at random, whoever's they are; stratified by the classes they show."""
    shown = [replace(row, category=str(highest[row.id])) for row in rows]
    fractions = (0.8, 0.1, 0.1) if by == "slice" else (0.6, 0.2, 0.2)  # blocks are few
    splits = split_by_group(without_groups(shown, by), fractions, seed)
    crossing = len(crossing_groups(splits, rows))
    notes.append(f"LEAKS ON PURPOSE: {crossing} groups lie on several sides of this split by {by}")
    return replace(splits, rule=splits.rule.replace("by group", f"by {by}, leaking"))


def _committed_for(
    rows: Sequence[CaseMeta], names: Sequence[str], notes: list[str]
) -> Splits | None:
    """The committed split that knows these cases, not merely some of their names."""
    refused: list[str] = []
    for name in dict.fromkeys(names):
        committed = committed_splits(name)
        if committed is None:
            continue
        known = committed.part_of()
        shared = sum(row.id in known for row in rows)
        if shared >= COMMITTED_SHARE * len(rows):
            return committed
        refused.append(
            f"the committed split of {name} knows {shared} of {len(rows)} cases, fewer than "
            f"{COMMITTED_SHARE:.0%}: an own split was made"
        )
    notes += refused
    return None


def _committed_split(rows: Sequence[CaseMeta], committed: Splits, notes: list[str]) -> Splits:
    splits, left_out = assign_rest(committed, rows)
    known = committed.part_of().keys()
    extra = sum(row.id not in known for row in rows)
    missing = len(known - {row.id for row in rows})
    if extra:
        notes.append(f"{extra} cases are not in the committed split: placed by their group")
    if missing:
        notes.append(f"{missing} cases of the committed split are not here")
    if left_out:
        notes.append(f"in no part, their group is in several: {', '.join(left_out[:5])}")
    splits = _without_twins(splits, rows, notes, "share a group with a later part of the split")
    return replace(splits, rule=f"committed: {committed.rule}")


def _given_split(
    rows: Sequence[CaseMeta],
    parts: dict[str, str | None],
    listing: Listing,
    root: Path,
    seed: int,
    notes: list[str],
) -> Splits:
    """The split that came with the data; validation is cut from training where it has none."""
    named: dict[str, list[str]] = {part: [] for part in PARTS}
    for row in rows:
        part = parts[row.id]
        if part is not None and part not in PARTS:
            raise InputError(
                root, f"names the split '{part}' for {row.id}", "use train, val or test"
            )
        if part is not None:
            named[part].append(row.id)
    given = Splits.of(named, "given with the data")
    if listing.official:
        given = _without_twins(given, rows, notes, "resemble the published test set")
    else:
        refuse_leaks(given, rows, str(root))
    splits, left_out = assign_rest(
        given, [row for row in rows if parts[row.id] is None or row.id in given.part_of()]
    )
    if left_out:
        notes.append(f"in no part, their group is in several: {', '.join(left_out[:5])}")
    return splits if splits.val.ids else _cut_validation(splits, rows, seed)


def _without_twins(splits: Splits, rows: Sequence[CaseMeta], notes: list[str], why: str) -> Splits:
    """A shared test set stays as it is: its groups leave training and validation.

    So do the groups of validation leave training; `why` says it in the note.
    """
    dropped: set[str] = set()
    for parts in crossing_groups(splits, rows).values():
        last = next(part for part in ("test", "val") if part in parts)
        dropped |= {id for part, ids in parts.items() if part != last for id in ids}
    if dropped:
        names = ", ".join(sorted(dropped)[:5])
        notes.append(f"{len(dropped)} cases {why} and are in no part: {names}")
    kept = {part: [id for id in splits.ids(part) if id not in dropped] for part in PARTS}
    return Splits.of(kept, splits.rule)


def _cut_validation(splits: Splits, rows: Sequence[CaseMeta], seed: int) -> Splits:
    train = set(splits.train.ids)
    cut = split_by_group([row for row in rows if row.id in train], (0.9, 0.1, 0.0), seed)
    rule = f"{splits.rule}; a tenth of training, by group, is validation, seed {seed}"
    ids = {"train": cut.train.ids, "val": cut.val.ids, "test": splits.test.ids}
    return Splits.of(ids, rule)


def _report(
    survey: _Survey, plan: _Plan, *, name: str, layout: str, listing: Listing
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


def _progress(entries: Sequence[T]) -> Iterable[T]:
    """Pass the entries on; a bar on the error stream appears when it takes more than 2 seconds."""
    import time

    from rich.console import Console
    from rich.progress import track

    start = time.monotonic()
    rest = iter(entries)
    for done, entry in enumerate(rest, start=1):
        yield entry
        if time.monotonic() - start > 2:
            bar = track(
                rest,
                "checking",
                total=len(entries),
                completed=done,
                console=Console(stderr=True),
                transient=True,
            )
            yield from bar
