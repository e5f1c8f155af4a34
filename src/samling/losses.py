"""Losses of mask segmentation: focal, cross-entropy, Dice, mask IoU, boundary. Means over samples.

Shapes: logits, labels (N, H, W), labels in {0, 1}; quality (N,). An empty label is legal in all of them.
"""

from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

BoundaryForm = Literal["kervadec", "hausdorff"]
EPSILON = 1.0


def focal(logits: Tensor, labels: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss on probabilities (Lin et al. 2017), mean over pixels and samples.

    `alpha` weighs the foreground, `1 - alpha` the background.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    probability = logits.sigmoid()
    wrong = probability + labels - 2 * probability * labels  # 1 - p of the true class
    weight = alpha * labels + (1 - alpha) * (1 - labels)
    return (weight * wrong**gamma * cross_entropy).mean()


def bce(logits: Tensor, labels: Tensor, importance: Tensor | None = None) -> Tensor:
    """Binary cross-entropy, mean over pixels and samples, weighed by `importance` (N, H, W)."""
    costs = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return costs.mean() if importance is None else (costs * importance).sum() / importance.sum()


def clicked(logits: Tensor, points: Tensor, inside: Tensor) -> Tensor:
    """Cross-entropy of the pixels that were clicked, mean over clicks.

    A mask may fit well and still leave out the very pixel that a user pointed at: one of 65,536.

    Args:
        points: (N, P, 2) x, y in pixels of the logits (N, H, W), as in `Prompt`.
        inside: (N, P) whether the click said "here", 1, or "not here", 0.
    """
    columns, rows = points.long().unbind(-1)
    each = torch.arange(len(points)).unsqueeze(1)
    at = logits[each, rows, columns]
    return F.binary_cross_entropy_with_logits(at, inside.to(at))


def dice(logits: Tensor, labels: Tensor) -> Tensor:
    """`1 - (2 Σpg + ε) / (Σp + Σg + ε)` per sample, ε = 1 pixel; an empty label wants an empty mask."""
    probability = logits.sigmoid().flatten(1)
    truth = labels.flatten(1)
    overlap = (probability * truth).sum(1)
    return (1 - (2 * overlap + EPSILON) / (probability.sum(1) + truth.sum(1) + EPSILON)).mean()


def mask_iou(logits: Tensor, labels: Tensor, quality: Tensor) -> Tensor:
    """`(IoU(p, g) - predicted IoU)²`, the IoU of the thresholded mask; trains the quality only.

    (LG-MedSeg eq. 9 prints a 2 in the numerator; then it is no IoU.)
    """
    return F.mse_loss(quality, hard_iou(logits, labels))


@torch.no_grad()
def hard_iou(logits: Tensor, labels: Tensor) -> Tensor:
    """(N,) IoU of `logits > 0` with the labels; two empty masks count 1."""
    predicted, truth = (logits > 0).flatten(1), (labels > 0.5).flatten(1)
    union = (predicted | truth).sum(1)
    return torch.where(union > 0, (predicted & truth).sum(1) / union.clamp(min=1), 1.0)


def boundary(logits: Tensor, labels: Tensor, form: BoundaryForm = "kervadec") -> Tensor:
    """Boundary loss with distances in units of the image diagonal, so that its size suits the others.

    `kervadec` (Kervadec et al. 2019): Σ (p - g) φ, φ the signed distance to the label's boundary, so
    that a perfect mask costs 0. `hausdorff` (Karimi & Salcudean 2019): Σ (p - g)² (d_g² + d_p²). Both
    are sums over the pixels divided by the label's area (at least a hundredth of the image, or a
    speck would outweigh a batch), so that small objects count as much as large ones. An empty label
    has no boundary and costs the mean p.
    """
    if form == "kervadec":
        return _kervadec(logits, labels)
    return _hausdorff(logits, labels)


def _kervadec(logits: Tensor, labels: Tensor) -> Tensor:
    probability = logits.sigmoid()
    area = labels.flatten(1).sum(1)
    cost = ((probability - labels) * signed_distance(labels)).flatten(1).sum(1) / _share(labels)
    return torch.where(area == 0, probability.flatten(1).mean(1), cost).mean()


def _hausdorff(logits: Tensor, labels: Tensor) -> Tensor:
    probability = logits.sigmoid()
    predicted = (logits > 0).to(labels.dtype)
    distance = _boundary_distance(labels) ** 2 + _boundary_distance(predicted) ** 2
    area = labels.flatten(1).sum(1)
    cost = ((probability - labels) ** 2 * distance).flatten(1).sum(1) / _share(labels)
    return torch.where(area == 0, probability.flatten(1).mean(1), cost).mean()


def _share(labels: Tensor) -> Tensor:
    """(N,) label area in pixels, at least a hundredth of the image."""
    pixels = labels.shape[-1] * labels.shape[-2]
    return labels.flatten(1).sum(1).clamp(min=0.01 * pixels)


@torch.no_grad()
def signed_distance(labels: Tensor) -> Tensor:
    """(N, H, W) distance to the boundary over the diagonal: negative inside, 0 where there is none."""
    planes = [_signed_plane(plane) for plane in labels.detach().cpu().numpy()]
    return torch.from_numpy(np.stack(planes)).to(labels.device, labels.dtype)


def _boundary_distance(masks: Tensor) -> Tensor:
    return signed_distance(masks).abs()


def _signed_plane(plane: np.ndarray) -> np.ndarray:
    inside = (plane > 0.5).astype(np.uint8)
    if inside.min() == inside.max():
        return np.zeros(inside.shape, dtype=np.float32)
    diagonal = float(np.hypot(*inside.shape))
    outer = cv2.distanceTransform(1 - inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    inner = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # Half a pixel each: the boundary runs between the last pixel inside and the first outside
    return (np.where(inside > 0, 0.5 - inner, outer - 0.5) / diagonal).astype(np.float32)
