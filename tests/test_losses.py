"""Losses against MONAI, SciPy and equations by hand; empty labels; gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.losses import DiceLoss, FocalLoss
from scipy import ndimage

from samling.losses import boundary, clicked, dice, focal, hard_iou, mask_iou, signed_distance


def disc(radius, centre=(20, 16), side=40):
    y, x = np.ogrid[:side, :side]
    inside = (x - centre[1]) ** 2 + (y - centre[0]) ** 2 <= radius**2
    return torch.from_numpy(inside.astype(np.float32))


@pytest.fixture
def batch():
    """Logits and labels (4, 40, 40): two objects, a speck below a hundredth of the image, nothing."""
    logits = torch.randn((4, 40, 40), generator=torch.Generator().manual_seed(4)) * 3
    labels = [disc(10), disc(5, (30, 30)), disc(1, (8, 8)), torch.zeros(40, 40)]
    return logits, torch.stack(labels)


def sure(labels):
    """Logits of a perfect prediction."""
    return (labels - 0.5) * 60


def test_focal_is_monais(batch):
    logits, labels = batch
    theirs = FocalLoss(gamma=2.0, alpha=0.25, include_background=True)
    torch.testing.assert_close(
        focal(logits, labels), theirs(logits.unsqueeze(1), labels.unsqueeze(1))
    )


def test_focal_by_hand():
    logit, probability = torch.tensor([[[0.3]]]), 1 / (1 + np.exp(-0.3))
    inside = -0.25 * (1 - probability) ** 2 * np.log(probability)
    outside = -0.75 * probability**2 * np.log(1 - probability)
    assert focal(logit, torch.ones(1, 1, 1)).item() == pytest.approx(inside)
    assert focal(logit, torch.zeros(1, 1, 1)).item() == pytest.approx(outside)


def test_clicked_looks_at_the_pixels_of_the_clicks_alone():
    logits = torch.zeros(2, 4, 6)
    logits[0, 1, 5], logits[0, 3, 0], logits[1, 0, 2] = 2.0, 1.0, -3.0  # rows, columns
    points = torch.tensor([[[5.5, 1.5], [0.5, 3.5]], [[2.5, 0.5], [5.5, 3.5]]])  # x, y
    inside = torch.tensor([[1, 0], [1, 1]])
    costs = np.log1p(np.exp([-2.0, 1.0, 3.0, 0.0]))
    assert clicked(logits, points, inside).item() == pytest.approx(costs.mean(), rel=1e-6)


def test_dice_is_monais(batch):
    logits, labels = batch
    theirs = DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)
    torch.testing.assert_close(
        dice(logits, labels), theirs(logits.unsqueeze(1), labels.unsqueeze(1))
    )


@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 1))
def test_hard_iou_is_a_ratio_of_sets(seed, share, other):
    rng = np.random.default_rng(seed)
    predicted, truth = rng.random((2, 6, 5)) < share, rng.random((2, 6, 5)) < other
    logits = torch.from_numpy(np.where(predicted, 1.0, -1.0))
    seen = hard_iou(logits, torch.from_numpy(truth.astype(float)))
    for value, a, b in zip(seen.tolist(), predicted, truth, strict=True):
        ours, theirs = set(np.flatnonzero(a)), set(np.flatnonzero(b))
        expected = len(ours & theirs) / len(ours | theirs) if ours | theirs else 1
        assert value == pytest.approx(expected)


def test_mask_iou_is_the_squared_error_of_the_quality_and_trains_it_alone(batch):
    logits, labels = batch
    logits.requires_grad_()
    quality = torch.tensor([0.2, 0.9, 0.5, 0.0], requires_grad=True)
    iou = hard_iou(logits, labels)
    loss = mask_iou(logits, labels, quality)
    torch.testing.assert_close(loss, ((iou - quality) ** 2).mean())
    loss.backward()
    assert logits.grad is None
    torch.testing.assert_close(quality.grad, 2 * (quality.detach() - iou) / 4)


def distance_by_scipy(plane):
    """Signed distance to the line between the pixels, over the diagonal."""
    if plane.min() == plane.max():
        return np.zeros(plane.shape)
    outer = ndimage.distance_transform_edt(plane == 0) - 0.5
    inner = ndimage.distance_transform_edt(plane > 0) - 0.5
    return np.where(plane > 0, -inner, outer) / np.hypot(*plane.shape)


@given(st.integers(0, 10_000), st.floats(0, 1), st.integers(2, 30), st.integers(2, 30))
def test_signed_distance_is_scipys(seed, share, height, width):
    plane = (np.random.default_rng(seed).random((height, width)) < share).astype(np.float32)
    seen = signed_distance(torch.from_numpy(plane[None]))[0]
    np.testing.assert_allclose(seen, distance_by_scipy(plane), atol=1e-5)


def share(plane):
    """Area of the label, at least a hundredth of the image."""
    return max(plane.sum(), plane.size / 100)


def test_kervadec_by_hand(batch):
    logits, labels = batch
    p, g = logits.sigmoid().numpy(), labels.numpy()
    costs = [
        ((p[i] - g[i]) * distance_by_scipy(g[i])).sum() / share(g[i]) if g[i].any() else p[i].mean()
        for i in range(4)
    ]
    assert boundary(logits, labels).item() == pytest.approx(np.mean(costs), rel=1e-4)


def test_hausdorff_by_hand(batch):
    logits, labels = batch
    p, g = logits.sigmoid().numpy(), labels.numpy()
    costs = []
    for i in range(4):
        far = distance_by_scipy(g[i]) ** 2 + distance_by_scipy((p[i] > 0.5) * 1.0) ** 2
        by_area = ((p[i] - g[i]) ** 2 * far).sum() / share(g[i])
        costs.append(by_area if g[i].any() else p[i].mean())
    assert boundary(logits, labels, "hausdorff").item() == pytest.approx(np.mean(costs), rel=1e-4)


@pytest.mark.parametrize("form", ["kervadec", "hausdorff"])
def test_boundary_of_a_perfect_mask_is_free_and_shifts_cost_ever_more(form):
    label = disc(8).unsqueeze(0)
    costs = [
        boundary(sure(disc(8, (20, 16 + shift)).unsqueeze(0)), label, form).item()
        for shift in range(0, 14, 2)
    ]
    assert costs[0] == pytest.approx(0, abs=1e-6)
    assert (np.diff(costs) > 0).all()


@pytest.mark.parametrize("form", ["kervadec", "hausdorff"])
def test_an_empty_label_wants_an_empty_mask(form):
    empty = torch.zeros(2, 12, 12)
    for loss in (focal, dice, lambda x, y: boundary(x, y, form)):
        nothing, little, much = (
            loss(torch.full_like(empty, level), empty).item() for level in (-30.0, -2.0, 3.0)
        )
        assert nothing == pytest.approx(0, abs=1e-6)
        assert nothing < little < much < np.inf
    nothing = mask_iou(torch.full_like(empty, -30.0), empty, torch.ones(2))
    assert nothing.item() == 0


LOSSES = {
    "focal": focal,
    "dice": dice,
    "kervadec": lambda x, y: boundary(x, y, "kervadec"),
    "hausdorff": lambda x, y: boundary(x, y, "hausdorff"),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("level", [0.0, 1.0, 100.0, -100.0])
def test_losses_and_gradients_are_finite_for_every_kind_of_label(loss, level):
    labels = torch.stack([disc(6), torch.zeros(40, 40), torch.ones(40, 40)])
    logits = torch.full((3, 40, 40), level, requires_grad=True)
    value = loss(logits, labels)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_following_the_gradient_finds_the_object(loss):
    labels = torch.stack([disc(8), torch.zeros(40, 40)])
    logits = torch.zeros_like(labels, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.5)
    for _ in range(40):
        optimizer.zero_grad()
        loss(logits, labels).backward()
        optimizer.step()
    assert hard_iou(logits.detach(), labels).min() > 0.95
