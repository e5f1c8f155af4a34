"""Augmentation of whole batches: one affine resampling and one intensity map, both replayable.

All randomness comes from the generator that is handed in, so the same seed gives the same batch.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes; the defaults are LG-MedSeg's rotation, flip and crop.

    Args:
        rotation_degrees: rotation by up to ± this angle about the centre of the square.
        flip: mirror left and right in half of the cases.
        crop: smallest side of the random crop, as a share of the square (1: no crop).
        enlarge: largest share by which the content is shrunk instead (1: never).
        gain: intensity times 1 ± gain, gamma 2^±gain.
    """

    rotation_degrees: float = 15.0
    flip: bool = True
    crop: float = 0.75
    enlarge: float = 1.1
    gain: float = 0.15


def augment(
    images: Tensor, labels: Tensor, plan: Augmentation, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Change images (B, 1, S, S) in [0, 1] and labels (B, S, S) alike; what falls outside is 0."""
    matrices = torch.from_numpy(_affine(len(images), plan, rng)).to(images.device)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", align_corners=False)
    planes = labels.unsqueeze(1).to(images.dtype)
    relabelled = F.grid_sample(planes, grid, mode="nearest", align_corners=False)
    return _intensity(moved, plan.gain, rng), relabelled.squeeze(1).to(labels.dtype)


def _affine(count: int, plan: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """(B, 2, 3) float32: output coordinates in [-1, 1] -> input coordinates."""
    radians = np.deg2rad(rng.uniform(-1, 1, count) * plan.rotation_degrees)
    scale = rng.uniform(plan.crop, plan.enlarge, count)
    room = np.maximum(1 - scale, 0)[:, None]
    shift = rng.uniform(-1, 1, (count, 2)) * room
    mirror = np.where(rng.random(count) < 0.5, -1.0, 1.0) if plan.flip else np.ones(count)
    cosine, sine = scale * np.cos(radians), scale * np.sin(radians)
    rows = np.stack([cosine * mirror, -sine, shift[:, 0], sine * mirror, cosine, shift[:, 1]], 1)
    return rows.reshape(count, 2, 3).astype(np.float32)


def _intensity(images: Tensor, gain: float, rng: np.random.Generator) -> Tensor:
    if gain == 0:
        return images
    shape = (len(images), 1, 1, 1)
    factor = torch.from_numpy(1 + rng.uniform(-gain, gain, shape).astype(np.float32))
    gamma = torch.from_numpy(2 ** rng.uniform(-gain, gain, shape).astype(np.float32))
    device = images.device
    return (images.clamp(0, 1) ** gamma.to(device) * factor.to(device)).clamp(0, 1)
