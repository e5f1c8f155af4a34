"""Calibration: coverage of exchangeable data, against scikit-learn where it has the same, by hand else."""

import numpy as np
import pytest

from samling.evaluation.calibration import (
    Coverage,
    conformal_quantile,
    covered,
    fit_curve,
    fit_temperature,
    reliability,
    risk_coverage,
)
from samling.inference.expectation import Curve


def objects(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """A quality that is too high, Dice scattered around a curve of it, more where it is low."""
    quality = rng.uniform(0.3, 1.0, count)
    scatter = rng.normal(size=count) * 0.25 * (1.05 - quality)
    return quality, np.clip(quality**2 + scatter, 0, 1), [f"g{i // 2}" for i in range(count)]


@pytest.mark.parametrize("level", [0.8, 0.9])
@pytest.mark.parametrize("count", [30, 200])
def test_intervals_hold_what_they_promise_on_unseen_objects(level, count) -> None:
    """Mean over many draws: within 3 points of nominal."""
    shares = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        curve = fit_curve(*objects(rng, count), level=level)
        quality, dice, _ = objects(rng, 300)
        shares.append(covered([curve.expect(q) for q in quality], dice.tolist()).share)
    assert np.mean(shares) == pytest.approx(level, abs=0.03)


def test_too_few_objects_promise_nothing() -> None:
    curve = fit_curve([0.5, 0.6, 0.7], [0.4, 0.5, 0.6], ["a", "b", "c"], level=0.9)
    assert curve.expect(0.6)[1:3] == (0.0, 1.0)


def test_the_curve_is_isotonic_regression() -> None:
    """The max-min formula: highest over the starts of the lowest mean over the ends."""
    quality, dice, groups = objects(np.random.default_rng(0), 40)
    y = dice[np.argsort(quality)]
    expected = [
        max(min(y[a : b + 1].mean() for b in range(i, 40)) for a in range(i + 1)) for i in range(40)
    ]
    curve = fit_curve(quality, dice, groups)
    assert [curve.expect(q).dice for q in np.sort(quality)] == pytest.approx(expected)


def test_the_interval_of_a_coverage_is_that_of_the_beta_quantiles() -> None:
    from scipy.stats import beta

    assert Coverage(23, 31).share == pytest.approx(0.742, abs=0.0005)
    for inside, of in ((23, 31), (1, 40), (90, 100)):
        by_hand = beta.ppf(0.025, inside, of - inside + 1), beta.ppf(0.975, inside + 1, of - inside)
        assert Coverage(inside, of).bounds == pytest.approx(by_hand)
    assert Coverage(10, 10).bounds == pytest.approx((0.025**0.1, 1.0))


def test_of_answers_that_are_right_or_wrong_the_share_is_expected() -> None:
    """As where nothing was found: Dice 1 or 0, and no quality that tells them apart."""
    dice = [1.0] * 19 + [0.0]
    curve = fit_curve([1.0] * 20, dice, [str(n) for n in range(20)], level=0.9)
    assert curve.expect(1.0).dice == pytest.approx(0.95) and not curve.expect(1.0).look
    doubtful = fit_curve([1.0] * 20, dice[:10] + [0.0] * 10, [str(n) for n in range(20)])
    assert doubtful.expect(1.0).dice == pytest.approx(0.5) and doubtful.expect(1.0).look


def test_quantile_by_hand() -> None:
    assert conformal_quantile(np.arange(1, 20) / 10, 0.9) == pytest.approx(1.8)  # the 18th of 19


def test_an_expectation_stays_within_0_and_1_and_says_when_to_look() -> None:
    curve = Curve(quality=(0.2, 0.8), dice=(0.3, 0.95), margin=1.0, objects=10)
    assert curve.expect(0.0).low == 0.0 and curve.expect(0.0).look
    sure = curve.expect(0.9)
    assert sure.dice == 0.95 and sure.low == pytest.approx(0.85) and sure.high == 1.0
    assert not sure.look


def test_what_is_less_sure_than_nine_in_ten_is_looked_at_however_good_they_were() -> None:
    """Boxes all hold an object when calibrated: Dice is high, and says nothing of boxes on tissue."""
    quality = np.arange(51, 101) / 100
    curve = fit_curve(quality, np.full(50, 0.9), [str(n) for n in range(50)])
    reasons = [curve.expect(q).reason for q in quality]
    assert [reason is not None for reason in reasons] == [True] * 5 + [False] * 45
    assert curve.expect(0.1).reason == "less sure than of nearly all it was calibrated on"
    assert curve.expect(0.1).low > 0.85
    poor = fit_curve(quality, quality - 0.5, [str(n) for n in range(50)])
    assert poor.expect(0.5).reason == "Dice may be below 0.6"


def test_the_temperature_is_found_again() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2, size=20_000)
    truth = rng.random(20_000) < 1 / (1 + np.exp(-logits))
    assert fit_temperature(3 * logits, truth) == pytest.approx(3, rel=0.05)


def test_reliability_by_hand() -> None:
    found = reliability([0.1, 0.15, 0.9, 1.0], [0, 1, 1, 1], bins=2)
    assert found.predicted.tolist() == pytest.approx([0.125, 0.95])
    assert found.observed.tolist() == [0.5, 1.0] and found.counts.tolist() == [2, 2]
    assert found.error == pytest.approx((0.375 + 0.05) / 2)


def test_keeping_the_surest_lowers_the_risk() -> None:
    share, risk = risk_coverage([0.9, 0.1, 0.5], [1.0, 0.0, 0.8])
    assert share.tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    assert risk.tolist() == pytest.approx([0, 0.1, 0.4])
