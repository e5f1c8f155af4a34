"""Statistics: textbook intervals, SciPy's tests, enumeration, bounds."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from samling.evaluation.statistics import holm, jensen, least_p, mean_ci, paired_test


def test_interval_without_groups_is_the_textbook_one() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0.8, 0.1, 400)
    got = mean_ci(values, [str(i) for i in range(400)])
    error = 1.96 * values.std() / 20
    assert got.mean == pytest.approx(values.mean())
    assert got.low == pytest.approx(values.mean() - error, abs=0.1 * error)
    assert got.high == pytest.approx(values.mean() + error, abs=0.1 * error)


def test_repeated_images_of_a_group_bring_no_certainty() -> None:
    values = np.random.default_rng(2).normal(0.8, 0.1, 40)
    alone = mean_ci(values, [str(i) for i in range(40)])
    copies = mean_ci(np.repeat(values, 5), [str(i // 5) for i in range(200)])
    naive = mean_ci(np.repeat(values, 5), [str(i) for i in range(200)])
    assert copies.high - copies.low == pytest.approx(alone.high - alone.low, rel=0.05)
    assert naive.high - naive.low < 0.6 * (alone.high - alone.low)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abcd")), min_size=1, max_size=20),
    st.integers(0, 5),
)
def test_interval_holds_the_mean_and_depends_on_the_seed_only(pairs, seed: int) -> None:
    values, groups = [v for v, _ in pairs], [g for _, g in pairs]
    got = mean_ci(values, groups, seed)
    assert got == mean_ci(values, groups, seed)
    assert min(values) - 1e-9 <= got.low <= got.mean <= got.high <= max(values) + 1e-9


def test_interval_of_one_group_has_no_width_and_of_none_is_refused() -> None:
    got = mean_ci([0.2, 0.4], ["a", "a"])
    assert got.low == got.high == pytest.approx(0.3)
    with pytest.raises(ValueError, match="got 0"):
        mean_ci([], [])


def names(count: int) -> list[str]:
    return [str(i) for i in range(count)]


def test_patients_weigh_the_same_if_asked_for() -> None:
    values, groups = [0.2, 0.2, 0.2, 0.8], ["a", "a", "a", "b"]
    assert mean_ci(values, groups).mean == pytest.approx(0.35)
    assert mean_ci(values, groups, over="patient").mean == pytest.approx(0.5)
    alone = np.random.default_rng(0).uniform(size=30)
    assert mean_ci(alone, names(30)) == mean_ci(alone, names(30), over="patient")


def test_coverage_of_the_interval_is_near_nominal() -> None:
    rng, inside = np.random.default_rng(5), 0
    for _ in range(200):
        patients = rng.normal(0.8, 0.05, 40)
        values = np.repeat(patients, 3) + rng.normal(0, 0.02, 120)
        got = mean_ci(values, [str(i // 3) for i in range(120)], draws=400)
        inside += got.low <= 0.8 <= got.high
    assert 0.88 <= inside / 200 <= 0.99


@pytest.mark.parametrize("count", [2, 5, 9, 30])
def test_permutation_equals_enumeration_or_scipy(count: int) -> None:
    rng = np.random.default_rng(count)
    first = rng.normal(0.8, 0.1, count)
    second = first - rng.normal(0.02, 0.05, count)
    got = paired_test(first, second, names(count))
    change = first - second
    if count < 12:
        sums = [abs(np.dot(signs, change)) for signs in product((1, -1), repeat=count)]
        expected = np.mean(np.array(sums) >= abs(change.sum()) - 1e-12)
        assert got.permutation == pytest.approx(expected)
    else:
        expected = stats.permutation_test(
            (first, second), lambda a, b: np.mean(a - b), permutation_type="samples",
            n_resamples=20_000, vectorized=False, rng=0,
        ).pvalue  # fmt: skip
        assert got.permutation == pytest.approx(expected, abs=0.02)
    assert got.change.mean == pytest.approx(change.mean())


def test_wilcoxon_equals_scipy() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.uniform(size=(2, 25))
    got = paired_test(first, second, names(25))
    assert got.wilcoxon == pytest.approx(stats.wilcoxon(first, second).pvalue)
    assert got.groups == 25


def test_copies_of_an_image_bring_no_significance() -> None:
    rng = np.random.default_rng(4)
    change = rng.normal(0.03, 0.06, 12)
    zeros = np.zeros(12)
    alone = paired_test(change, zeros, names(12))
    copied = paired_test(np.repeat(change, 10), np.zeros(120), [str(i // 10) for i in range(120)])
    assert copied.permutation == pytest.approx(alone.permutation)
    assert copied.wilcoxon == pytest.approx(alone.wilcoxon)
    naive = paired_test(np.repeat(change, 10), np.zeros(120), names(120))
    assert naive.permutation < alone.permutation


def test_no_difference_is_no_evidence() -> None:
    same = np.full(20, 0.7)
    got = paired_test(same, same, names(20))
    assert (got.wilcoxon, got.permutation, got.change.mean) == (1, 1, 0)
    one = paired_test([0.9], [0.1], ["a"])
    assert one.permutation == 1 and one.wilcoxon == 1  # a single patient proves nothing


def test_false_alarms_of_the_tests_stay_below_the_level() -> None:
    rng = np.random.default_rng(7)
    wrong = np.zeros(2)
    for _ in range(200):
        patients = np.repeat(rng.normal(0, 0.1, 15), 4)
        change = patients + rng.normal(0, 0.02, 60)
        got = paired_test(change, np.zeros(60), [str(i // 4) for i in range(60)], draws=400)
        wrong += np.array([got.wilcoxon, got.permutation]) < 0.05
    assert (wrong / 200 < 0.09).all()  # image by image it would be above 0.3


def closed_testing(p: list[float]) -> list[float]:
    """Holm as the closure of Bonferroni: a hypothesis falls if every set that holds it does."""
    count = len(p)
    sets = [s for s in product((0, 1), repeat=count) if any(s)]
    return [
        min(1.0, max(sum(s) * min(p[i] for i in range(count) if s[i]) for s in sets if s[k]))
        for k in range(count)
    ]


@pytest.mark.parametrize("groups", [6, 12, 13, 18])
def test_the_least_p_is_what_one_sided_differences_get(groups: int) -> None:
    test = paired_test(np.full(groups, 0.9), np.full(groups, 0.1), [str(n) for n in range(groups)])
    assert test.permutation >= least_p(groups) * (1 - 1e-9)
    if groups <= 12:
        assert test.permutation == least_p(groups) == 2 / 2**groups
    else:  # drawn at random: about the share of the two sign changes that reach it
        assert test.permutation == pytest.approx(2 / 2**groups, rel=0.9, abs=1e-5)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_equals_closed_testing(p: list[float]) -> None:
    np.testing.assert_allclose(holm(p), closed_testing(p), atol=1e-12)


def test_holm_of_nothing() -> None:
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_real_means_always_pass_jensen(ious: list[float]) -> None:
    values = np.array(ious)
    assert jensen(float(np.mean(2 * values / (1 + values))), float(values.mean()))


@pytest.mark.parametrize(
    ("dice", "iou", "possible"),
    [
        (93.08, 87.35, True), (92.24, 85.76, True), (85.20, 73.80, False), (90.85, 84.50, True),
        (50.0, 60.0, False), (100.0, 100.0, True), (0.0, 0.0, True),
    ],
)  # fmt: skip
def test_published_pairs(dice: float, iou: float, possible: bool) -> None:
    assert jensen(dice / 100, iou / 100, rounding=0.00005) == possible
