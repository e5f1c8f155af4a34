"""Calibration: from a model's own quality to Dice with a conformal interval; temperature; checks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samling.inference.expectation import SPREAD_AT_BEST, Curve, Expected, spread

FOLDS = 5
Floats = NDArray[np.float64]


def fit_curve(
    quality: ArrayLike, dice: ArrayLike, groups: Sequence[str], level: float = 0.9
) -> Curve:
    """Isotonic regression of Dice on quality, and the margin of an interval that holds `level`.

    The margin is the conformal quantile of the residuals over their `spread`, each taken from a
    regression that has not seen its group (cross-conformal, Vovk 2015; in five folds by group). With
    fewer than level / (1 - level) objects nothing can be promised: the interval is then 0 to 1.

    Args:
        quality, dice: (N,) of objects. groups: of each: patients, where known.
        level: share of further objects that the interval shall hold, if they are like these.
    """
    x, y = np.asarray(quality, np.float64), np.asarray(dice, np.float64)
    fold = np.unique(np.asarray(groups), return_inverse=True)[1] % FOLDS
    residuals = []
    for number in np.unique(fold):
        inside = fold != number
        knots = _isotonic(x[inside], y[inside]) if inside.any() else _isotonic(x, y)
        expected = np.interp(x[~inside], *knots)
        residuals.append(np.abs(y[~inside] - expected) / spread(expected))
    knots = _isotonic(x, y)
    return Curve(
        quality=tuple(knots[0].tolist()),
        dice=tuple(knots[1].clip(0, 1).tolist()),
        margin=conformal_quantile(np.concatenate(residuals), level),
        objects=len(x),
    )


def conformal_quantile(residuals: ArrayLike, level: float) -> float:
    """The ceil((n + 1) level)-th smallest; what reaches everywhere if there are too few.

    >>> conformal_quantile([0.1, 0.2, 0.3, 0.4], 0.8)
    0.4
    """
    ordered = np.sort(np.asarray(residuals, np.float64))
    rank = math.ceil((len(ordered) + 1) * level - 1e-9)
    return 1 / SPREAD_AT_BEST if rank > len(ordered) else float(ordered[rank - 1])


def fit_temperature(logits: ArrayLike, truth: ArrayLike) -> float:
    """The T for which sigmoid(logit / T) has the least cross-entropy (Guo et al. 2017)."""
    from scipy.optimize import minimize_scalar

    x, y = np.asarray(logits, np.float64), np.asarray(truth, np.float64)

    def entropy(log_t: float) -> float:
        z = x / math.exp(log_t)
        return float(np.mean(np.logaddexp(0, z) - y * z))

    return math.exp(float(minimize_scalar(entropy, bounds=(-3, 3), method="bounded").x))


@dataclass(frozen=True)
class Reliability:
    """Predicted against observed in bins.

    Args:
        predicted, observed: means per bin that is not empty. counts: how many are in each.
    """

    predicted: Floats
    observed: Floats
    counts: NDArray[np.int64]

    @property
    def error(self) -> float:
        """Expected calibration error: mean distance of the two, bins weighed by what is in them."""
        return float(np.average(np.abs(self.predicted - self.observed), weights=self.counts))


def reliability(predicted: ArrayLike, observed: ArrayLike, bins: int = 10) -> Reliability:
    """Bins of equal width over 0..1."""
    p, o = np.asarray(predicted, np.float64), np.asarray(observed, np.float64)
    index = np.minimum((p * bins).astype(int), bins - 1)
    used = np.unique(index)
    return Reliability(
        np.array([p[index == k].mean() for k in used]),
        np.array([o[index == k].mean() for k in used]),
        np.array([(index == k).sum() for k in used]),
    )


def risk_coverage(sureness: ArrayLike, dice: ArrayLike) -> tuple[Floats, Floats]:
    """Share kept, the surest first, and mean 1 - Dice of what is kept.

    >>> [part.tolist() for part in risk_coverage([0.2, 0.9], [0.5, 1.0])]
    [[0.5, 1.0], [0.0, 0.25]]
    """
    risk = 1 - np.asarray(dice, np.float64)[np.argsort(-np.asarray(sureness), kind="stable")]
    count = np.arange(1, len(risk) + 1)
    return count / len(risk), np.cumsum(risk) / count


@dataclass(frozen=True)
class Coverage:
    """Of so many objects (`of`, at least one) so many have their Dice in its interval."""

    inside: int
    of: int

    @property
    def share(self) -> float:
        """0..1."""
        return self.inside / self.of

    @property
    def bounds(self) -> tuple[float, float]:
        """95 % interval of the share among all such objects (Clopper and Pearson 1934).

        As if objects were independent: with several of a patient it is wider in truth.
        """
        from scipy.stats import binomtest

        found = binomtest(self.inside, self.of).proportion_ci(0.95, method="exact")
        return float(found.low), float(found.high)


def covered(expected: Sequence[Expected], dice: Sequence[float]) -> Coverage:
    """How many objects have their Dice in the interval expected of each."""
    inside = [e.low - 1e-9 <= v <= e.high + 1e-9 for e, v in zip(expected, dice, strict=True)]
    return Coverage(sum(inside), len(inside))


def _isotonic(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Knots of a rising curve through (x, y), equal x joined first."""
    from scipy.optimize import isotonic_regression

    places, index, counts = np.unique(x, return_inverse=True, return_counts=True)
    means = np.bincount(index, y) / counts
    return places, np.asarray(isotonic_regression(means, weights=counts).x)
