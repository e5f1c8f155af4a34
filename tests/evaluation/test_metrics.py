"""Metrics against MONAI, hand-worked cases and properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from scipy.spatial import distance

from samling.evaluation.metrics import (
    area_error,
    cross_entropy,
    dice,
    findings,
    iou,
    precision,
    sensitivity,
)

masks = arrays(bool, (9, 12))


def blob(seed: int, shape=(48, 56)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return ndimage.gaussian_filter(rng.standard_normal(shape), 4) > 0.02


def square(top: int, left: int, side: int = 5, shape=(40, 40)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_200_pairs_equal_monai_and_scipy(mask_pairs) -> None:
    """Where one of the two is empty their answer is NaN; ours is the written rule, see below."""
    torch = pytest.importorskip("torch")
    monai = pytest.importorskip("monai.metrics")
    compared = 0
    for one, two, _ in mask_pairs:
        if not one.any() or not two.any():
            continue
        a, b = (torch.from_numpy(m[None, None].astype(np.float32)) for m in (one, two))
        assert dice(one, two) == pytest.approx(monai.DiceMetric()(b, a).item(), abs=1e-6)
        assert iou(one, two) == pytest.approx(monai.MeanIoU()(b, a).item(), abs=1e-6)
        apart, far = (f(one.ravel(), two.ravel()) for f in (distance.dice, distance.jaccard))
        assert (dice(one, two), iou(one, two)) == pytest.approx((1 - apart, 1 - far), abs=1e-9)
        matrix = monai.get_confusion_matrix(b, a)
        for name, metric in (("sensitivity", sensitivity), ("precision", precision)):
            expected = monai.compute_confusion_matrix_metric(name, matrix).item()
            assert metric(one, two) == pytest.approx(expected, abs=1e-6)
        compared += 1
    assert compared > 120


def test_by_hand() -> None:
    one, two = square(0, 0, 2), square(0, 1, 2)
    assert dice(one, two) == 0.5
    assert iou(one, two) == pytest.approx(1 / 3)
    wide = square(0, 0, 2) | square(0, 2, 2)  # 8 pixels
    assert (sensitivity(one, wide), precision(one, wide)) == (1, 0.5)
    assert area_error(one, wide) == pytest.approx(2 * 4 / 12)
    assert area_error(wide, one) == -area_error(one, wide)


def test_empty_masks_follow_the_written_rule() -> None:
    empty, full = np.zeros((30, 40), dtype=bool), square(1, 1, 3, (30, 40))
    for metric in (dice, iou, sensitivity, precision):
        assert metric(empty, empty) == 1
        assert metric(empty, full) == metric(full, empty) == 0
    assert area_error(empty, empty) == 0
    assert (area_error(full, empty), area_error(empty, full)) == (-2, 2)


@given(masks, masks)
def test_rates_equal_counted_pixels(one: np.ndarray, two: np.ndarray) -> None:
    hit, missed, wrong = (one & two).sum(), (one & ~two).sum(), (~one & two).sum()
    if one.any() and two.any():
        assert sensitivity(one, two) == pytest.approx(hit / (hit + missed))
        assert precision(one, two) == pytest.approx(hit / (hit + wrong))
    assert area_error(one, two) == pytest.approx(
        2 * (int(two.sum()) - int(one.sum())) / max(1, one.sum() + two.sum())
    )


def test_cross_entropy_equals_pytorch_and_is_bounded() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    label, probability = blob(3), rng.uniform(0.001, 0.999, (48, 56)).astype(np.float32)
    expected = torch.nn.functional.binary_cross_entropy(
        torch.from_numpy(probability).double(), torch.from_numpy(label.astype(np.float64))
    )
    assert cross_entropy(label, probability) == pytest.approx(expected.item(), rel=1e-6)
    certain = label.astype(np.float32)
    assert cross_entropy(label, certain) == pytest.approx(0, abs=1e-6)
    assert cross_entropy(label, 1 - certain) == pytest.approx(-np.log(1e-7))
    assert cross_entropy(label, np.full(label.shape, 0.5)) == pytest.approx(np.log(2))


@given(masks, masks)
def test_properties_of_overlap(one: np.ndarray, two: np.ndarray) -> None:
    d, j = dice(one, two), iou(one, two)
    assert d == dice(two, one) and j == iou(two, one)
    assert 0 <= j <= d <= 1
    assert j == pytest.approx(d / (2 - d))
    assert (d == 1) == np.array_equal(one, two)


def test_lesions_are_counted_one_by_one() -> None:
    labels = [square(2, 2), square(20, 20)]
    assert findings(labels, [square(2, 3), square(30, 2)]) == (2, 1, 1)
    assert findings(labels, []) == (2, 0, 0)
    assert findings([], [square(2, 2)]) == (0, 0, 1)
    assert findings([], []) == (0, 0, 0)
    # one region over both lesions covers each by less than the limit
    assert findings(labels, [square(0, 0, 40)]) == (2, 0, 1)
    # unless they touch: one outline around two neighbours has found both
    assert findings([square(2, 2), square(2, 7)], [square(2, 2) | square(2, 7)]) == (2, 2, 0)
