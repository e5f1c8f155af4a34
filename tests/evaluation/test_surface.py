"""Surface distances against MONAI, brute force over outline pixels, and hand-worked cases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from scipy.spatial import cKDTree

from samling.evaluation.surface import SurfaceDistances, outline, surface_distances

masks = arrays(bool, (9, 12))


def square(top: int, left: int, side: int = 5, shape=(40, 40)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def by_brute_force(
    label: np.ndarray, predicted: np.ndarray, spacing: tuple[float, float] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Distances from each outline pixel to the other outline, by a search tree over coordinates."""
    step = np.array(spacing or (1.0, 1.0))
    edges = [np.argwhere(m & ~ndimage.binary_erosion(m)) * step for m in (label, predicted)]
    return cKDTree(edges[1]).query(edges[0])[0], cKDTree(edges[0]).query(edges[1])[0]


def test_200_pairs_equal_brute_force(mask_pairs) -> None:
    compared = 0
    for one, two, spacing in mask_pairs:
        got = surface_distances(one, two, spacing)
        if (
            not one.any() or not two.any()
        ):  # the written rule: the image's diagonal, or nothing at all
            farthest = np.hypot(*(np.array(one.shape) * (spacing or 1)))
            worst = farthest if one.any() or two.any() else 0
            assert got.percentile95 == got.maximum == pytest.approx(worst)
            continue
        there, back = by_brute_force(one, two, spacing)
        np.testing.assert_allclose(np.sort(got.there), np.sort(there), atol=1e-4)
        assert got.maximum == pytest.approx(max(there.max(), back.max()), abs=1e-4)
        directed = max(np.percentile(there, 95), np.percentile(back, 95))
        assert got.percentile95 == pytest.approx(directed, abs=1e-4)
        assert got.mean == pytest.approx(np.concatenate([there, back]).mean(), abs=1e-4)
        near = np.concatenate([there, back]) <= 2.35
        assert got.within(2.35) == pytest.approx(near.mean(), abs=1e-6)
        compared += 1
    assert compared > 120


def test_200_pairs_equal_monai(mask_pairs) -> None:
    torch = pytest.importorskip("torch")
    monai = pytest.importorskip("monai.metrics")
    for one, two, spacing in mask_pairs:
        if not one.any() or not two.any():
            continue  # there MONAI gives NaN: see the test below
        a, b = (torch.from_numpy(m[None, None].astype(np.float32)) for m in (one, two))
        got = surface_distances(one, two, spacing)
        common = {"include_background": True, "spacing": spacing}
        for percentile, value in ((95, got.percentile95), (None, got.maximum)):
            expected = monai.compute_hausdorff_distance(b, a, percentile=percentile, **common)
            assert value == pytest.approx(expected.item(), abs=1e-4)
        expected = monai.compute_average_surface_distance(b, a, symmetric=True, **common)
        assert got.mean == pytest.approx(expected.item(), abs=1e-4)
        expected = monai.compute_surface_dice(b, a, class_thresholds=[2.35], **common)
        assert got.within(2.35) == pytest.approx(expected.item(), abs=1e-6)


def test_a_missed_lesion_must_not_improve_the_mean() -> None:
    """In MONAI a missed lesion is NaN and drops out of the mean: finding less looks better."""
    labels = [square(5, 5), square(20, 20)]
    poor, nothing = square(26, 20), np.zeros((40, 40), dtype=bool)
    tried = surface_distances(labels[1], poor).percentile95
    missed = surface_distances(labels[1], nothing).percentile95
    assert missed == pytest.approx(np.hypot(40, 40)) and missed > tried > 0
    torch = pytest.importorskip("torch")
    monai = pytest.importorskip("monai.metrics")
    metric = monai.HausdorffDistanceMetric(include_background=True, percentile=95)
    first, second, empty = (
        torch.from_numpy(m[None, None].astype(np.float32)) for m in (*labels, nothing)
    )
    metric(first, first)
    metric(empty, second)
    assert metric.aggregate().item() == 0  # the trap: a perfect score for a missed lesion


def test_hd95_is_the_larger_directed_percentile_not_the_pooled_one() -> None:
    """Pooling (medpy) hides an error that only one of the outlines sees."""
    label = square(10, 4, 20, (40, 200))
    tail = label.copy()
    tail[20, 24:30] = True
    got = surface_distances(label, tail)
    pooled = np.percentile(np.concatenate([got.there, got.back]), 95)
    assert got.percentile95 == pytest.approx(np.percentile(got.back, 95))
    assert pooled < got.percentile95


def test_by_hand() -> None:
    assert surface_distances(square(3, 3), square(3, 3)).maximum == 0
    far = surface_distances(square(2, 2, 1), square(5, 6, 1))
    assert (far.maximum, far.percentile95, far.mean) == (5, 5, 5)
    assert (far.within(5), far.within(4.9)) == (1, 0)
    assert surface_distances(square(2, 2, 1), square(5, 6, 1), (2.0, 2.0)).maximum == 10
    assert surface_distances(square(2, 2, 1), square(5, 2, 1), (2.0, 9.0)).maximum == 6


def test_a_distance_of_exactly_the_tolerance_is_within_it() -> None:
    one, two = square(2, 2, 1), square(12, 2, 1)
    assert surface_distances(one, two, (0.1, 0.1)).within(1.0) == 1
    assert surface_distances(one, two, (0.1, 0.3)).within(1.0) == 1


def test_percentile_forgives_a_thin_spike() -> None:
    plain = square(5, 5, 20)
    spiked = plain.copy()
    spiked[10, 25:35] = True
    assert surface_distances(plain, spiked).maximum == 10
    assert surface_distances(plain, plain | square(10, 25, 1)).percentile95 < 1.01


def test_empty_masks_follow_the_written_rule() -> None:
    empty, full = np.zeros((30, 40), dtype=bool), square(1, 1, 3, (30, 40))
    nothing = surface_distances(empty, empty)
    assert (nothing.maximum, nothing.percentile95, nothing.mean, nothing.within(1)) == (0, 0, 0, 1)
    for one, two in ((empty, full), (full, empty)):
        got = surface_distances(one, two)
        assert (got.maximum, got.percentile95, got.mean) == (50, 50, 50)
        assert got.within(1000) == 0  # however large the tolerance
    anisotropic = surface_distances(empty, full, (2.0, 1.0))
    assert anisotropic.percentile95 == pytest.approx(np.hypot(60, 40))


@given(masks, masks)
def test_properties(one: np.ndarray, two: np.ndarray) -> None:
    there, back = surface_distances(one, two), surface_distances(two, one)
    for name in ("maximum", "percentile95", "mean"):
        assert getattr(there, name) == pytest.approx(getattr(back, name))
    assert there.within(1) == back.within(1)
    assert 0 <= there.mean <= there.maximum <= 15 + 1e-9  # the diagonal of 9 x 12
    assert 0 <= there.percentile95 <= there.maximum
    assert (there.maximum == 0) == np.array_equal(outline(one), outline(two))
    assert surface_distances(one, two, (2.0, 2.0)).mean == pytest.approx(2 * there.mean)
    if one.any() and two.any():
        assert surface_distances(one, ~one & ~two).maximum < 15.0001
        assert there.maximum < 15  # a missed lesion is farther off than any found one


@given(st.integers(-9, 9), st.integers(-9, 9))
def test_distance_of_a_shifted_square_is_the_shift(down: int, across: int) -> None:
    moved = surface_distances(square(15, 15), square(15 + down, 15 + across)).maximum
    expected = np.hypot(down, across)
    assert moved <= expected + 1e-6
    if abs(down) >= 5 or abs(across) >= 5:  # apart: no other pixel of the outline is nearer
        assert moved == pytest.approx(expected)
    if down == 0 or across == 0:
        assert moved == pytest.approx(expected)


@given(masks)
def test_outline_is_the_eroded_rim(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(outline(mask), mask & ~ndimage.binary_erosion(mask))


def test_volumes() -> None:
    one, two = np.zeros((2, 12, 14, 16), dtype=bool)
    one[2:8, 3:9, 4:10] = True
    two[3:9, 3:9, 4:10] = True
    got = surface_distances(one, two, (5.0, 1.0, 1.0))
    there, back = by_brute_force(one, two, (5.0, 1.0, 1.0))
    assert got.maximum == max(there.max(), back.max()) == 5
    assert got.mean == pytest.approx(np.concatenate([there, back]).mean())
    np.testing.assert_array_equal(outline(one), one & ~ndimage.binary_erosion(one))


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="spacing"):
        surface_distances(square(1, 1), square(1, 1), (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="masks"):
        surface_distances(square(1, 1), square(1, 1, shape=(40, 41)))


def test_a_frozen_value() -> None:
    assert SurfaceDistances(np.array([1.0, 3.0]), np.array([0.0])).mean == pytest.approx(4 / 3)
