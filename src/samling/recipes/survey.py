"""What prepare remembers of the cases it read, and the split they get: given, committed or new."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from samling.data.case import Case
from samling.data.case_meta import CaseMeta
from samling.data.checks import check_entries, relative
from samling.data.duplicates import Pair, merge_groups, near_duplicates, thumbnail
from samling.data.leaks import find_leaks, fingerprint
from samling.data.sources.entry import Listing, Problem
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
COMMITTED_SHARE = 0.9
"""Share of the ids that a committed split must know: a few equal names are no public set."""


@dataclass
class Survey:
    """What is remembered of the cases once their pixels are gone."""

    rows: list[CaseMeta] = field(default_factory=list)
    thumbnails: list[NDArray[np.float32]] = field(default_factory=list)
    fingerprints: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    parts: dict[str, str | None] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    highest: dict[str, int] = field(default_factory=dict)

    @property
    def highest_class(self) -> int:
        """Of all labels."""
        return max(self.highest.values(), default=0)

    def read(
        self, listing: Listing, root: Path, keep: Callable[[Case], None], empty: int = 0
    ) -> None:
        """Read and judge every image and scan; `keep` gets each usable case.

        `empty`: see `check_volumes`.

        Raises:
            InputError: nothing is usable.
        """
        self.problems += [relative(problem, root) for problem in listing.problems]
        scans = check_volumes(_progress(listing.volumes), len(listing.classes), root, empty)
        for checked in chain(check_entries(_progress(listing.entries), root), scans):
            self.problems += checked.problems
            case = checked.case
            if case is None:
                continue
            keep(case)
            self.rows.append(CaseMeta.of(case))
            self.thumbnails.append(thumbnail(case.image))
            self.fingerprints[case.id] = fingerprint(case.image)
            self.parts[case.id] = checked.entry.part
            self.highest[case.id] = 0 if case.labels is None else int(case.labels.max())
        if not self.rows:
            errors = [problem for problem in self.problems if problem.severity == "error"]
            first = errors[0] if errors else Problem(str(root), "no image was found", "add images")
            problem = f"has nothing usable: {len(errors)} problems, first {first.file}: "
            raise InputError(root, problem + first.reason, first.remedy)


@dataclass(frozen=True)
class Plan:
    """The cases with their final groups, the look-alikes, and the split."""

    rows: Sequence[CaseMeta]
    pairs: Sequence[Pair]
    splits: Splits
    notes: Sequence[str]


def plan_split(
    survey: Survey,
    listing: Listing,
    root: Path,
    name: str,
    seed: int,
    by: str = "group",
) -> Plan:
    """Groups from what is known and what looks alike; then the split."""
    pairs = near_duplicates(survey.thumbnails, [row.modality for row in survey.rows])
    notes: list[str] = []
    given = any(survey.parts.values())
    committed = None
    if by == "group" and not given:
        committed = _committed_for(survey.rows, (name, listing.public_name), notes)
    whole = given and "val" in survey.parts.values()
    if by == "group" and not committed and not whole:
        pairs += _new_copies(pairs, survey)  # a split that is made here can mind them
    patients = [row.patient for row in survey.rows]
    groups = merge_groups([row.group for row in survey.rows], pairs, patients)
    rows = [replace(row, group=group) for row, group in zip(survey.rows, groups, strict=True)]
    if by != "group":
        return Plan(rows, pairs, _leaking_split(rows, survey.highest, by, seed, notes), notes)
    if given:
        splits = _given_split(rows, survey.parts, listing, root, seed, notes)
    elif committed:
        splits = _committed_split(rows, committed, notes)
    else:
        splits = split_by_group(rows, seed=seed)
    notes += _on_cases(survey, listing, groups, official=listing.official)
    notes += _lookalikes(survey, splits)
    return Plan(rows, pairs, splits, notes)


def _on_cases(
    survey: Survey, listing: Listing, groups: Sequence[str], *, official: bool
) -> list[str]:
    """What the cases there are cannot promise."""
    notes = []
    if len(groups) > 1 and len(set(groups)) == 1:
        notes.append(
            "all cases are one group and on one side of the split; where an anonymised PatientID "
            "is the reason, name the patients in meta.csv, column case_id"
        )
    if not any(row.patient or row.group != row.id for row in survey.rows) and not official:
        notes.append(
            "no patient is known: images of one patient may be on both sides of the split, unless they "
            "look alike; name the patients in meta.csv, column case_id"
        )
    if listing.volumes and 0 not in survey.highest.values():
        notes.append(
            "slices that show no class are left out: a model trained on the others finds its organ in "
            "every slice, also in the heart's; --empty 4 keeps every fourth"
        )
    return notes


def _new_copies(pairs: Sequence[Pair], survey: Survey) -> list[Pair]:
    """Copies turned, cropped or moved among images that nothing groups, but for those in `pairs`."""
    size = Counter(row.group for row in survey.rows)
    alone = [n for n, row in enumerate(survey.rows) if size[row.group] == 1]
    prints = [survey.fingerprints[survey.rows[n].id] for n in alone]
    known = {(pair.first, pair.second) for pair in pairs}
    found: dict[tuple[int, int], float] = {}
    for leak in find_leaks(prints, _progress(prints, "looking for copies")):
        first, second = sorted((alone[leak.first], alone[leak.second]))
        if first != second and (first, second) not in known:
            found[first, second] = leak.similarity
    return [Pair(*pair, found[pair], mirrored=False) for pair in sorted(found)]


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


def _lookalikes(survey: Survey, splits: Splits) -> list[str]:
    """A note on pictures of training that the groups missed in validation or test: turned, cropped."""
    first = splits.train.ids
    second = [*splits.val.ids, *splits.test.ids]
    seen = survey.fingerprints
    leaks = find_leaks([seen[i] for i in first], [seen[i] for i in second])
    if not leaks:
        return []
    named = ", ".join(f"{second[leak.second]} is {first[leak.first]}" for leak in leaks[:3])
    return [
        f"{len({leak.second for leak in leaks})} images of validation or test look like training "
        f"images turned, mirrored or cropped ({named}): give both one group in meta.csv"
    ]


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


def _progress(entries: Sequence[T], what: str = "checking") -> Iterable[T]:
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
                what,
                total=len(entries),
                completed=done,
                console=Console(stderr=True),
                transient=True,
            )
            yield from bar
