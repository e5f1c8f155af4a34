"""Statistics of evaluation: intervals over patients, paired tests with correction, Jensen's check.

The unit is the group (patient, near-duplicates), never the image: images of one patient are not
independent, and ten frames of a patient are not ten patients.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

MeanOver = Literal["image", "patient"]
_EXACT_GROUPS = 12
"""Up to so many groups all sign changes are tried: 2^12 of them."""
_MORE = 20
"""Times as many sign changes are tried as at first, if none of those reached the difference."""


def least_p(groups: int, draws: int = 10_000) -> float:
    """The smallest p that `paired_test` can give: of n groups 2 / 2^n, and no less than chance shows."""
    exact = float(2.0 ** (1 - groups))
    return exact if groups <= _EXACT_GROUPS else max(exact, 1 / (_MORE * draws + 1))


@dataclass(frozen=True)
class Interval:
    """A mean with its interval."""

    mean: float
    low: float
    high: float


def mean_ci(
    values: ArrayLike,
    groups: Sequence[str],
    seed: int = 0,
    *,
    over: MeanOver = "image",
    draws: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Mean over images or patients, and its percentile bootstrap interval over groups.

    Args:
        values: (N,) one value per image, N at least 1.
        groups: N names; images of one group are drawn together. One group alone: no width.
        seed: of the bootstrap.
        over: `image`: every image weighs the same; `patient`: every group does.
        draws: number of resampled sets.
        level: share of the draws inside the interval.
    """
    sums, counts = _by_group(values, groups)
    if over == "patient":
        sums, counts = sums / counts, np.ones(len(counts))
    times = _resampled(len(sums), seed, draws)
    means = (times @ sums) / (times @ counts)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    mean = float(sums.sum() / counts.sum())
    # rounding must not push an interval past its own mean
    return Interval(mean, min(float(low), mean), max(float(high), mean))


@dataclass(frozen=True)
class PairedTest:
    """One method against another on the same images.

    Args:
        change: mean difference (first minus second) with its interval.
        groups: how many patients or groups carry it.
        wilcoxon: two-sided p of the signed-rank test on the groups' mean differences.
        permutation: two-sided p of the sign-flip test of the mean difference, whole groups at once.
    """

    change: Interval
    groups: int
    wilcoxon: float
    permutation: float


def paired_test(
    first: ArrayLike,
    second: ArrayLike,
    groups: Sequence[str],
    seed: int = 0,
    *,
    over: MeanOver = "image",
    draws: int = 10_000,
) -> PairedTest:
    """Compare two methods by the values of the same images.

    Args:
        first: (N,) values of one method.
        second: (N,) values of the other, image by image.
        groups: N names; differences of one group change sign together.
        seed: of bootstrap and permutation.
        over: as `mean_ci`.
        draws: number of random sign changes where there are too many to try all; twenty times as many
            where none of them reaches the difference, so that p can survive a large family.
    """
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    sums, counts = _by_group(difference, groups)
    means = sums / counts
    return PairedTest(
        change=mean_ci(difference, groups, seed, over=over),
        groups=len(sums),
        wilcoxon=_wilcoxon(means),
        permutation=_sign_flip(means if over == "patient" else sums, seed, draws),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the family-wise error stays below the level compared with.

    Returns:
        Adjusted p-values in the order given, at most 1.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    steps = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(steps).clip(max=1.0)
    return adjusted.tolist()


def jensen(dice: float, iou: float, rounding: float = 0.0) -> bool:
    """Whether a mean Dice and a mean IoU can come from the same images.

    Per image Dice = 2 IoU / (1 + IoU), a concave function through (0, 0) and (1, 1). So for means
    over the same images IoU <= Dice <= 2 IoU / (1 + IoU), by the chord and by Jensen's inequality.

    Args:
        dice: mean Dice, 0..1.
        iou: mean IoU, 0..1.
        rounding: half a unit of the last printed digit; 0.00005 for 93.08 %.

    >>> jensen(0.9308, 0.8735, 0.00005), jensen(0.6822, 0.5768, 0.00005)
    (True, True)
    >>> jensen(0.8520, 0.7380, 0.00005)
    False
    """
    most, least = iou + rounding, iou - rounding
    return least - 1e-9 <= dice + rounding and dice - rounding <= 2 * most / (1 + most) + 1e-9


def _by_group(
    values: ArrayLike, groups: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) == 0 or len(numbers) != len(groups):
        raise ValueError(f"one group per value is needed, got {len(numbers)}, {len(groups)}")
    _, index = np.unique(groups, return_inverse=True)
    sums = np.bincount(index, numbers).astype(np.float64)
    return sums, np.bincount(index).astype(np.float64)


@lru_cache(maxsize=4)
def _resampled(groups: int, seed: int, draws: int) -> NDArray[np.int64]:
    """(draws, groups) how often each group is drawn; the same for every metric of the same set."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(groups, np.full(groups, 1 / groups), size=draws)


def _wilcoxon(means: NDArray[np.float64]) -> float:
    from scipy import stats  # slow to import, and only tests need it

    if not means.any():
        return 1.0
    return float(stats.wilcoxon(means, zero_method="pratt").pvalue)


def _sign_flip(values: NDArray[np.float64], seed: int, draws: int) -> float:
    limit = abs(values.sum()) * (1 - 1e-9) - 1e-15

    def reached(signs: NDArray[Any]) -> int:
        return int((np.abs(signs @ values) >= limit).sum())

    if len(values) <= _EXACT_GROUPS:
        signs = np.array(list(product((1, -1), repeat=len(values))))
        return reached(signs) / len(signs)
    rng = np.random.default_rng(seed)

    def drawn() -> int:
        return reached(rng.choice(np.array([-1, 1], dtype=np.int8), (draws, len(values))))

    # The observed signs are one of the possible ones: p is never 0 (Phipson and Smyth 2010)
    if first := drawn():
        return (first + 1) / (draws + 1)
    return (sum(drawn() for _ in range(_MORE - 1)) + 1) / (_MORE * draws + 1)
