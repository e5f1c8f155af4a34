"""Metrics against MONAI, hand-worked cases and properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from samling.evaluation.metrics import (
    dice,
    findings,
    hausdorff,
    iou,
    mean_ci,
    outline,
)

masks = arrays(bool, (9, 12))


def blob(seed: int, shape=(48, 56)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return ndimage.gaussian_filter(rng.standard_normal(shape), 4) > 0.02


def square(top: int, left: int, side: int = 5, shape=(40, 40)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("spacing", [None, (0.5, 0.5), (0.3, 1.7)])
def test_hausdorff_equals_monai(seed: int, spacing: tuple[float, float] | None) -> None:
    torch = pytest.importorskip("torch")
    monai = pytest.importorskip("monai.metrics")
    one, two = blob(seed), blob(seed + 100)
    a, b = (torch.from_numpy(m[None, None].astype(np.float32)) for m in (one, two))
    got = hausdorff(one, two, spacing)
    for percentile, value in ((95, got.percentile95), (None, got.maximum)):
        expected = monai.compute_hausdorff_distance(
            a, b, include_background=True, percentile=percentile, spacing=spacing
        )
        assert value == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_dice_and_iou_equal_monai(seed: int) -> None:
    torch = pytest.importorskip("torch")
    monai = pytest.importorskip("monai.metrics")
    one, two = blob(seed), blob(seed + 50)
    a, b = (torch.from_numpy(m[None, None].astype(np.float32)) for m in (one, two))
    assert dice(one, two) == pytest.approx(monai.DiceMetric()(a, b).item(), rel=1e-6)
    assert iou(one, two) == pytest.approx(monai.MeanIoU()(a, b).item(), rel=1e-6)


def test_by_hand() -> None:
    one, two = square(0, 0, 2), square(0, 1, 2)
    assert dice(one, two) == 0.5
    assert iou(one, two) == pytest.approx(1 / 3)
    assert hausdorff(square(3, 3), square(3, 3)) == (0, 0)
    far = hausdorff(square(2, 2, 1), square(5, 6, 1))
    assert far == (5, 5)
    assert hausdorff(square(2, 2, 1), square(5, 6, 1), (2.0, 2.0)) == (10, 10)
    assert hausdorff(square(2, 2, 1), square(5, 2, 1), (2.0, 9.0)) == (6, 6)


def test_percentile_forgives_a_thin_spike() -> None:
    plain = square(5, 5, 20)
    spiked = plain.copy()
    spiked[10, 25:35] = True
    assert hausdorff(plain, spiked).maximum == 10
    assert hausdorff(plain, plain | square(10, 25, 1)).percentile95 < 1.01
    # a bump is found whichever of the two masks carries it
    assert hausdorff(plain, spiked) == hausdorff(spiked, plain)


def test_empty_masks_follow_the_written_rule() -> None:
    empty, full = np.zeros((30, 40), dtype=bool), square(1, 1, 3, (30, 40))
    assert (dice(empty, empty), iou(empty, empty)) == (1, 1)
    assert hausdorff(empty, empty) == (0, 0)
    for one, two in ((empty, full), (full, empty)):
        assert (dice(one, two), iou(one, two)) == (0, 0)
        assert hausdorff(one, two) == (50, 50)
    assert hausdorff(empty, full, (2.0, 1.0)).percentile95 == pytest.approx(np.hypot(60, 40))


@given(masks, masks)
def test_properties_of_overlap(one: np.ndarray, two: np.ndarray) -> None:
    d, j = dice(one, two), iou(one, two)
    assert d == dice(two, one) and j == iou(two, one)
    assert 0 <= j <= d <= 1
    assert j == pytest.approx(d / (2 - d))
    assert (d == 1) == np.array_equal(one, two)


@given(masks, masks)
def test_properties_of_distance(one: np.ndarray, two: np.ndarray) -> None:
    there, back = hausdorff(one, two), hausdorff(two, one)
    assert there == back
    assert np.isfinite(there).all()
    assert 0 <= there.percentile95 <= there.maximum <= 15 + 1e-9  # the diagonal of 9 x 12
    assert (there.maximum == 0) == np.array_equal(outline(one), outline(two))
    doubled = hausdorff(one, two, (2.0, 2.0))
    assert doubled.maximum == pytest.approx(2 * there.maximum)


@given(st.integers(-9, 9), st.integers(-9, 9))
def test_distance_of_a_shifted_square_is_the_shift(down: int, across: int) -> None:
    moved = hausdorff(square(15, 15), square(15 + down, 15 + across))
    expected = np.hypot(down, across)
    assert moved.maximum <= expected + 1e-6
    if abs(down) >= 5 or abs(across) >= 5:  # apart: no other pixel of the outline is nearer
        assert moved.maximum == pytest.approx(expected)
    if down == 0 or across == 0:
        assert moved.maximum == pytest.approx(expected)


@given(masks)
def test_outline_is_the_eroded_rim(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(outline(mask), mask & ~ndimage.binary_erosion(mask))


def test_lesions_are_counted_one_by_one() -> None:
    labels = [square(2, 2), square(20, 20)]
    assert findings(labels, [square(2, 3), square(30, 2)]) == (2, 1, 1)
    assert findings(labels, []) == (2, 0, 0)
    assert findings([], [square(2, 2)]) == (0, 0, 1)
    assert findings([], []) == (0, 0, 0)
    # one region over both lesions covers each by less than the limit
    assert findings(labels, [square(0, 0, 40)]) == (2, 0, 1)


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
