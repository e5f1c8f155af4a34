"""Splits into training, validation and test: by group, stratified, with a hash; three types."""

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

from samling.errors import InputError

PARTS = ("train", "val", "test")
BLOCK = 8
"""Slices of one volume that stay together in a split by blocks."""


class Grouped(Protocol):
    """Anything with an id, a group and a category: see `Case`."""

    @property
    def id(self) -> str:
        """Unique name."""
        ...

    @property
    def group(self) -> str:
        """Cases of one group stay on one side."""
        ...

    @property
    def source(self) -> str:
        """Name of its file; "" if unknown."""
        ...

    @property
    def category(self) -> str:
        """What to stratify by."""
        ...


@dataclass(frozen=True)
class _Part:
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class TrainSplit(_Part):
    """Ids that weights may be fitted to."""


@dataclass(frozen=True)
class ValSplit(_Part):
    """Ids that choices may be made by."""


@dataclass(frozen=True)
class TestSplit(_Part):
    """Ids for the final number; only evaluation takes this type."""

    __test__ = False  # pytest would collect a class of this name


@dataclass(frozen=True)
class Splits:
    """Three parts without a common id, and the rule that made them, in words."""

    train: TrainSplit
    val: ValSplit
    test: TestSplit
    rule: str = ""

    def __post_init__(self) -> None:
        ids = [*self.train.ids, *self.val.ids, *self.test.ids]
        if len(set(ids)) < len(ids):
            twice = next(id for id in ids if ids.count(id) > 1)
            raise InputError("splits", f"hold '{twice}' twice", "keep each id in one part")

    @classmethod
    def of(cls, parts: Mapping[str, Iterable[str]], rule: str = "") -> "Splits":
        """Build from {"train": ids, "val": ids, "test": ids}; ids are sorted."""
        train, val, test = (tuple(sorted(parts.get(part, ()))) for part in PARTS)
        return cls(TrainSplit(train), ValSplit(val), TestSplit(test), rule)

    @cached_property
    def hash(self) -> str:
        """sha256 over which id is in which part; the order and the rule do not matter."""
        parts = {part: sorted(self.ids(part)) for part in PARTS}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def ids(self, part: str) -> tuple[str, ...]:
        """Ids of "train", "val" or "test"."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        if part not in named:
            raise InputError(part, "is no part of a split", "use train, val or test")
        return named[part].ids

    def part_of(self) -> dict[str, str]:
        """Id -> part."""
        return {id: part for part in PARTS for id in self.ids(part)}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the three id lists, hash and rule."""
        lists = {part: list(self.ids(part)) for part in PARTS}
        return {"rule": self.rule, "hash": self.hash, **lists}

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str) -> "Splits":
        """Undo `to_dict`.

        Raises:
            InputError: lists are missing or do not give the hash that is written beside them.
        """
        try:
            splits = cls.of({part: values[part] for part in PARTS}, values["rule"])
            expected = values["hash"]
        except (KeyError, TypeError) as error:
            raise InputError(where, f"has no valid splits ({error})", "prepare it again") from error
        if splits.hash != expected:
            raise InputError(where, "has splits that were changed by hand", "prepare it again")
        return splits


def split_by_group(
    cases: Iterable[Grouped],
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    seed: int = 0,
) -> Splits:
    """Divide by group so that each category comes close to `fractions`; a group is never divided.

    Large groups are placed first, each where it disturbs the wanted numbers least; the order among
    equals comes from a hash of seed and group name, so that a list in another order splits alike.
    With three groups or more, no part that has a fraction stays empty.
    """
    groups = _groups(cases)
    wanted = dict(zip(PARTS, fractions, strict=True))
    placed = _placed(groups, wanted, seed)
    _fill_empty(placed, groups, wanted)
    ids = {part: [case.id for name in placed[part] for case in groups[name]] for part in PARTS}
    shares = ":".join(f"{10 * share:g}" for share in fractions)
    return Splits.of(ids, f"by group, stratified by category, {shares}, seed {seed}")


def fold_by_group(cases: Iterable[Grouped], fold: int, folds: int, seed: int = 0) -> Splits:
    """Cross-validation: fold `fold` (from 1) of `folds` is the test part, the next one validation.

    Over all folds each case is tested once and validated once. A group is never divided, and each
    category is spread as evenly as groups allow.

    Raises:
        InputError: fewer groups than folds, fewer than three folds, or no such fold.
    """
    groups = _groups(cases)
    named = f"fold {fold} of {folds}"
    if folds < 3 or not 1 <= fold <= folds:
        raise InputError(named, "is no fold", "three or more, counted from 1: STORE.h5@1of5")
    if len(groups) < folds:
        problem = f"cannot be made of {len(groups)} groups"
        raise InputError(named, problem, "ask for fewer, or add cases of other patients")
    numbers = [str(number) for number in range(1, folds + 1)]
    placed = _placed(groups, dict.fromkeys(numbers, 1 / folds), seed, even=True)
    for empty in (number for number in numbers if not placed[number]):  # no category in common
        fullest = max(placed.values(), key=len)
        placed[empty].append(fullest.pop())
    test, val = str(fold), str(fold % folds + 1)
    part_of = {number: "train" for number in numbers} | {test: "test", val: "val"}
    ids: dict[str, list[str]] = {part: [] for part in PARTS}
    for number in numbers:
        ids[part_of[number]] += [case.id for name in placed[number] for case in groups[name]]
    rule = f"fold {fold} of {folds} by group, stratified by category, seed {seed}"
    return Splits.of(ids, f"{rule}; fold {val} is validation")


def fold_in(path: Path) -> tuple[Path, tuple[int, int] | None]:
    """The file of a store, and which fold of it a path names.

    >>> fold_in(Path("my.h5@2of5"))[1], fold_in(Path("my.h5"))[1]
    ((2, 5), None)
    """
    match = re.fullmatch(r"(.+)@(\d{1,4})of(\d{1,4})", path.name)
    if match is None or path.exists():
        return path, None
    return path.with_name(match[1]), (int(match[2]), int(match[3]))


def _placed(
    groups: dict[str, list[Grouped]], wanted: dict[str, float], seed: int, *, even: bool = False
) -> dict[str, list[str]]:
    """Part -> names of its groups; `wanted` has each part's share. `even`: of equals the emptiest."""
    totals: dict[str, int] = {}
    for members in groups.values():
        for case in members:
            totals[case.category] = totals.get(case.category, 0) + 1
    counts = {part: dict.fromkeys(totals, 0) for part in wanted}
    placed: dict[str, list[str]] = {part: [] for part in wanted}
    for name in sorted(groups, key=lambda name: (-len(groups[name]), _order(seed, name))):
        members = groups[name]
        part = _least_disturbed(members, counts, totals, wanted, even=even)
        placed[part].append(name)
        for case in members:
            counts[part][case.category] += 1
    return placed


def without_groups(cases: Iterable[Grouped], by: str) -> list["Single"]:
    """Cases as if they had nothing to do with each other: what a leaking split is made of.

    Args:
        by: `slice`: every case alone; `block`: `BLOCK` slices of a volume that follow each other.
    """
    return [Single(case.id, _block(case.id) if by == "block" else case.id, case.source, case.category)
            for case in cases]  # fmt: skip


@dataclass(frozen=True)
class Single:
    """A case with another group than its own; see `Grouped`."""

    id: str
    group: str
    source: str
    category: str


def _block(id: str) -> str:
    """Volume and number of the block that a slice lies in, by the number that ends its id.

    >>> _block("p1_s0041")
    'p1 block 5'
    """
    match = re.fullmatch(r"(.+)_s(\d{4,})", id)
    return f"{match[1]} block {int(match[2]) // BLOCK}" if match else id


def assign_rest(splits: Splits, cases: Sequence[Grouped]) -> tuple[Splits, tuple[str, ...]]:
    """Keep `splits` for the cases that are here, and place the cases it does not name.

    A case goes where its group is; to training if its group is nowhere; nowhere if its group is in
    several parts.

    Returns:
        The splits, and the ids left out.
    """
    known = splits.part_of()
    where: dict[str, set[str]] = {}
    for case in cases:
        if case.id in known:
            where.setdefault(case.group, set()).add(known[case.id])
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    left_out = []
    for case in cases:
        choice = {known[case.id]} if case.id in known else where.get(case.group, {"train"})
        if len(choice) > 1:
            left_out.append(case.id)
        else:
            parts[next(iter(choice))].append(case.id)
    return Splits.of(parts, splits.rule), tuple(left_out)


def crossing_groups(splits: Splits, cases: Iterable[Grouped]) -> dict[str, dict[str, list[str]]]:
    """Groups that lie in more than one part: group -> part -> ids. Empty when nothing leaks."""
    known = splits.part_of()
    found: dict[str, dict[str, list[str]]] = {}
    for case in cases:
        if case.id in known:
            found.setdefault(case.group, {}).setdefault(known[case.id], []).append(case.id)
    return {group: parts for group, parts in found.items() if len(parts) > 1}


def refuse_leaks(splits: Splits, cases: Iterable[Grouped], where: str) -> None:
    """Refuse splits that put one group into two parts.

    Raises:
        InputError: naming the cases.
    """
    cases = list(cases)
    leaks = crossing_groups(splits, cases)
    if leaks:
        files = {case.id: case.source for case in cases}
        group, parts = min(leaks.items())
        sides = " and ".join(f"{_named(ids, files)} in {part}" for part, ids in parts.items())
        more = f" (and {len(leaks) - 1} more groups)" if len(leaks) > 1 else ""
        problem = f"leaks: group '{group}' has {sides}{more}"
        raise InputError(
            where, problem, "put each group on one side, or leave the split to samling"
        )


def committed_splits(name: str) -> Splits | None:
    """The splits of a public data set that every experiment shares; None if there are none."""
    if not name.replace("_", "").isalnum():
        return None
    path = files("samling.data") / "public_splits" / f"{name}.json"
    if not path.is_file():
        return None
    return Splits.from_dict(json.loads(path.read_text(encoding="utf-8")), str(path))


def _named(ids: Sequence[str], files: Mapping[str, str]) -> str:
    """The files of some cases, or the cases where no file is known; three at most."""
    names = list(dict.fromkeys(files[id] or id for id in ids))
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")


def _groups(cases: Iterable[Grouped]) -> dict[str, list[Grouped]]:
    groups: dict[str, list[Grouped]] = {}
    for case in cases:
        groups.setdefault(case.group, []).append(case)
    return groups


def _order(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def _least_disturbed(
    members: Sequence[Grouped],
    counts: dict[str, dict[str, int]],
    totals: dict[str, int],
    wanted: dict[str, float],
    *,
    even: bool,
) -> str:
    """Part whose squared distance from the wanted numbers grows least, relative to these."""

    def growth(part: str) -> float:
        if wanted[part] <= 0:
            return float("inf")
        cost = 0.0
        for category in {case.category for case in members}:
            target = wanted[part] * totals[category]
            now = counts[part][category]
            then = now + sum(case.category == category for case in members)
            cost += ((then - target) ** 2 - (now - target) ** 2) / target
        return cost

    def order(part: str) -> tuple[float, int]:
        return growth(part), sum(counts[part].values()) if even else 0

    return min(wanted, key=order)


def _fill_empty(
    placed: dict[str, list[str]], groups: dict[str, list[Grouped]], wanted: dict[str, float]
) -> None:
    """Move the smallest group of the fullest part into each part that should not be empty."""
    for part in ("val", "test"):
        fullest: Collection[str] = max(placed.values(), key=len)
        if wanted[part] > 0 and not placed[part] and len(fullest) > 1:
            name = min(fullest, key=lambda name: len(groups[name]))
            max(placed.values(), key=len).remove(name)
            placed[part].append(name)
