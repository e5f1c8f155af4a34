"""Paired comparisons over rows."""

from dataclasses import replace

import pytest

from samling.evaluation.paired import compare_methods, corrected, paired_table
from samling.evaluation.run import Row
from samling.evaluation.statistics import paired_test


def rows(method: str, values: list[float], protocol: str = "box") -> list[Row]:
    return [
        replace(Row(f"c{i}", f"g{i}", "", method, protocol, True, 1), dice=value)
        for i, value in enumerate(values)
    ]


LOW = [0.5 + 0.01 * i for i in range(12)]


def test_every_protocol_and_method_is_compared_and_corrected_together() -> None:
    better = [value + 0.1 + 0.001 * i for i, value in enumerate(LOW)]
    measured = rows("mine", better) + rows("base", LOW) + rows("same", better)
    measured += rows("mine", LOW, "auto") + rows("base", LOW, "auto")
    tests = compare_methods(measured, "mine")
    assert [(t.protocol, t.other) for t in tests] == [
        ("box", "base"), ("box", "same"), ("auto", "base"),
    ]  # fmt: skip
    first = tests[0]
    alone = paired_test(better, LOW, [f"g{i}" for i in range(12)])
    assert first.permutation == alone.permutation == pytest.approx(2 / 2**12)
    assert first.permutation_holm == pytest.approx(3 * alone.permutation)
    assert [t.verdict for t in tests] == ["better", "not clearly apart", "not clearly apart"]
    assert compare_methods(measured, "base")[0].verdict == "worse"


def test_a_large_difference_survives_a_large_family() -> None:
    """10,000 sign changes allow no p below 1e-4, which 552 tests would make 0.055."""
    low = [0.3 + 0.002 * i for i in range(70)]
    (one,) = compare_methods(rows("mine", [v + 0.5 for v in low]) + rows("other", low), "mine")
    assert one.permutation == pytest.approx(1 / 200_001)
    assert {test.verdict for test in corrected([one] * 552)} == {"better"}
    close = [v + (0.02 if i % 2 else -0.019) for i, v in enumerate(low)]
    (other,) = compare_methods(rows("mine", close) + rows("other", low), "mine")
    assert other.permutation > 0.5 and other.verdict == "not clearly apart"


def test_few_groups_in_a_large_family_are_called_few() -> None:
    better = [v + 0.1 for v in LOW[:7]]
    (one,) = compare_methods(rows("mine", better) + rows("base", LOW[:7]), "mine")
    assert one.permutation == 2 / 2**7 and one.verdict == "better"
    assert corrected([one] * 32)[0].verdict == "too few groups to tell", "no result could be enough"
    assert corrected([replace(one, groups=15)] * 32)[0].verdict == "not clearly apart"


def test_only_images_that_both_answered_count() -> None:
    short = rows("base", LOW)[:7]
    skipped = replace(rows("base", LOW)[7], counted=False, dice=None)
    (test,) = compare_methods([*rows("mine", LOW), *short, skipped], "mine")
    assert (test.images, test.groups) == (7, 7)


def test_fewer_clicks_are_better() -> None:
    few = [replace(r, clicks=2) for r in rows("mine", LOW, "noc90")]
    many = [replace(r, clicks=5 + i % 3) for i, r in enumerate(rows("base", LOW, "noc90"))]
    (test,) = compare_methods(few + many, "mine")
    assert test.measure == "clicks" and test.change.mean == pytest.approx(-4)
    assert test.verdict == "better"
    table = paired_table([test])
    assert table is not None and table.rows[0][2].startswith("-4.0 clicks")


def test_the_table_says_how_it_was_tested() -> None:
    table = paired_table(compare_methods(rows("mine", LOW) + rows("base", LOW), "mine"))
    assert table is not None
    assert table.rows[0][1:4] == ("base", "+0.0 (+0.0 to +0.0)", "1.000")
    assert "Holm" in table.caption and "mine minus" in table.caption
    assert paired_table([]) is None
