"""Splits: no group is ever divided, the numbers come out, and the order of cases does not matter."""

import json
import random
from dataclasses import dataclass
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samling.data.splits import (
    PARTS,
    Splits,
    assign_rest,
    committed_splits,
    crossing_groups,
    fold_by_group,
    refuse_leaks,
    split_by_group,
)
from samling.errors import InputError


@dataclass(frozen=True)
class Row:
    id: str
    group: str
    category: str = ""
    source: str = ""


def rows_of(sizes: list[tuple[int, int]]) -> list[Row]:
    """Groups of the given (size, category) as cases."""
    return [
        Row(f"g{group}_{member}", f"g{group}", f"c{category}")
        for group, (size, category) in enumerate(sizes)
        for member in range(size)
    ]


GROUPS = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 2)), min_size=3, max_size=60)


@given(GROUPS, st.integers(0, 3))
def test_groups_are_never_divided_and_nobody_is_lost(
    sizes: list[tuple[int, int]], seed: int
) -> None:
    rows = rows_of(sizes)
    splits = split_by_group(rows, seed=seed)
    sides: dict[str, set[str]] = {}
    for row in rows:
        sides.setdefault(row.group, set()).add(splits.part_of()[row.id])
    assert all(len(found) == 1 for found in sides.values())
    assert sorted(splits.part_of()) == sorted(row.id for row in rows)
    assert all(splits.ids(part) for part in PARTS)


@given(GROUPS)
def test_the_order_of_the_cases_does_not_matter(sizes: list[tuple[int, int]]) -> None:
    rows = rows_of(sizes)
    mixed = random.Random(1).sample(rows, len(rows))
    assert split_by_group(rows).hash == split_by_group(mixed).hash


def test_every_category_comes_close_to_eight_to_one_to_one() -> None:
    generator = random.Random(0)
    rows = rows_of(
        [(generator.choice([1, 1, 1, 2, 3]), generator.choice([0, 0, 1])) for _ in range(400)]
    )
    splits = split_by_group(rows)
    for category in ("c0", "c1"):
        ids = {row.id for row in rows if row.category == category}
        for part, share in zip(PARTS, (0.8, 0.1, 0.1), strict=True):
            found = len(ids & set(splits.ids(part))) / len(ids)
            assert found == pytest.approx(share, abs=0.01)


def test_another_seed_is_another_split() -> None:
    rows = rows_of([(1, 0)] * 40)
    assert split_by_group(rows, seed=0).hash != split_by_group(rows, seed=1).hash


@given(GROUPS, st.integers(3, 6), st.integers(0, 3))
def test_over_all_folds_each_case_is_tested_once_and_validated_once(sizes, folds, seed) -> None:
    rows = rows_of(sizes)
    groups = {row.id: row.group for row in rows}
    if len(set(groups.values())) < folds:
        with pytest.raises(InputError, match="groups"):
            fold_by_group(rows, 1, folds, seed)
        return
    splits = [fold_by_group(rows, fold, folds, seed) for fold in range(1, folds + 1)]
    for part in ("val", "test"):
        assert sorted(id for one in splits for id in one.ids(part)) == sorted(groups)
    for one in splits:
        assert not crossing_groups(one, rows)
        assert set(one.part_of()) == set(groups)
        assert all(one.ids(part) for part in PARTS)


def test_folds_share_every_category_and_bad_ones_are_refused() -> None:
    rows = rows_of([(1, 0)] * 100 + [(1, 1)] * 50)
    for fold in range(1, 6):
        test = fold_by_group(rows, fold, 5).test.ids
        kinds = [row.category for row in rows if row.id in test]
        assert sorted(kinds.count(kind) for kind in set(kinds)) == [10, 20]
    rare = rows_of([(1, kind) for kind in range(20)])  # one group of each category
    sizes = [len(fold_by_group(rare, fold, 5).test.ids) for fold in range(1, 6)]
    assert sizes == [4, 4, 4, 4, 4]
    for fold, folds in ((0, 5), (6, 5), (1, 2)):
        with pytest.raises(InputError, match="is no fold"):
            fold_by_group(rows, fold, folds)


def test_the_hash_tells_who_is_where_and_survives_json() -> None:
    splits = Splits.of({"train": ["b", "a"], "val": ["c"], "test": []}, "by hand")
    again = Splits.from_dict(json.loads(json.dumps(splits.to_dict())), "here")
    assert again == splits and again.hash == splits.hash
    moved = Splits.of({"train": ["a"], "val": ["b", "c"], "test": []})
    assert moved.hash != splits.hash
    changed = {**splits.to_dict(), "test": ["d"]}
    with pytest.raises(InputError, match="changed by hand"):
        Splits.from_dict(changed, "here")


def test_an_id_in_two_parts_is_refused() -> None:
    with pytest.raises(InputError, match="'a' twice"):
        Splits.of({"train": ["a"], "test": ["a"]})


def test_new_cases_follow_their_group_and_bridges_are_left_out() -> None:
    splits = Splits.of({"train": ["a"], "val": ["b"], "test": ["c"]})
    rows = [Row("a", "1"), Row("b", "2"), Row("c", "3"), Row("d", "3"), Row("e", "9")]
    placed, left_out = assign_rest(splits, rows)
    assert placed.test.ids == ("c", "d") and placed.train.ids == ("a", "e") and not left_out
    bridge = [Row("a", "1"), Row("c", "1"), Row("x", "1")]
    placed, left_out = assign_rest(splits, bridge)
    assert left_out == ("x",) and placed.test.ids == ("c",)


def test_a_leak_is_found_and_refused() -> None:
    splits = Splits.of({"train": ["a", "b"], "test": ["c"]})
    rows = [Row("a", "1"), Row("b", "2"), Row("c", "2")]
    assert crossing_groups(splits, rows) == {"2": {"train": ["b"], "test": ["c"]}}
    with pytest.raises(InputError, match="b in train and c in test"):
        refuse_leaks(splits, rows, "here")


def committed_names() -> list[str]:
    folder = files("samling.data") / "public_splits"
    return sorted(
        item.name.removesuffix(".json") for item in folder.iterdir() if ".json" in item.name
    )


@pytest.mark.parametrize("name", committed_names())
def test_committed_splits_are_whole(name: str) -> None:
    splits = committed_splits(name)
    assert splits is not None and all(splits.ids(part) for part in PARTS)


def test_committed_names_and_others() -> None:
    assert len(committed_names()) == 8
    assert committed_splits("unknown") is None and committed_splits("../x") is None


def test_a_leak_is_refused_with_the_names_of_the_files() -> None:
    splits = Splits.of({"train": ["a_s1", "a_s2"], "test": ["b_s1"]})
    rows = [
        Row("a_s1", "1", source="a.nii.gz"),
        Row("a_s2", "1", source="a.nii.gz"),
        Row("b_s1", "1", source="b.nii.gz"),
    ]
    with pytest.raises(InputError, match=r"has a\.nii\.gz in train and b\.nii\.gz in test"):
        refuse_leaks(splits, rows, "here")
