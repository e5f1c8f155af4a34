"""Augmentation of whole batches: one affine resampling and one intensity map, both replayable.

All randomness comes from the generator that is handed in, so the same seed gives the same batch.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from samling.prompts.sampling import objects, tight_box

TONE_PIECES, TONE_CONCENTRATION = 8, 0.6

KINDS = ("rotation", "flip", "scale", "intensity", "shear", "shift")


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes; the defaults are LG-MedSeg's rotation, flip and crop.

    Args:
        rotation_degrees: rotation by up to ± this angle about the centre of the square.
        flip: mirror left and right in half of the cases.
        crop: smallest side of the random crop, as a share of the square (1: no crop).
        enlarge: largest share by which the content is shrunk instead (1: never).
        gain: intensity times 1 ± gain, gamma 2^±gain.
        shear_degrees: shear along x by up to ± this angle.
        shift: move by up to ± this share of the square.
        operations: RandAugment (Cubuk et al. 2020, arXiv 1909.13719): every image gets so many kinds of
            change of the list rotation, flip, scale (`crop` and `enlarge`), intensity, shear, shift,
            drawn at random, each within its range; 0: all of them.
        zoom_chance: share of the images with an object that are seen close up instead: a square of
            1.4 to 3 times the object, stretched to [0, 1] again, as `prompts.zoom` shows it.
        tone_chance: share of the images with another tone curve, see `retone`.
        speckle: largest standard deviation of noise that is multiplied in, pixel by pixel.
    """

    rotation_degrees: float = 15.0
    flip: bool = True
    crop: float = 0.75
    enlarge: float = 1.1
    gain: float = 0.15
    shear_degrees: float = 0.0
    shift: float = 0.0
    operations: int = 0
    zoom_chance: float = 0.0
    tone_chance: float = 0.0
    speckle: float = 0.0


def augment(
    images: Tensor, labels: Tensor, plan: Augmentation, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Change images (B, C, S, S) in [0, 1] and labels (B, S, S) alike; what falls outside is 0.

    The order: place, tone, speckle, gain.
    """
    chosen = _chosen(len(images), plan, rng)
    affine = _affine(chosen, plan, rng)
    close = _zoom(affine, labels, plan, rng) if plan.zoom_chance else []
    matrices = torch.from_numpy(affine).to(images.device)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", align_corners=False)
    if close:
        low, high = moved[close].amin((1, 2, 3), True), moved[close].amax((1, 2, 3), True)
        moved[close] = (moved[close] - low) / (high - low).clamp(min=1e-3)
    planes = labels.unsqueeze(1).to(images.dtype)
    relabelled = F.grid_sample(planes, grid, mode="nearest", align_corners=False)
    moved = _speckle(retone(moved, plan.tone_chance, rng), plan.speckle, rng)
    gain = plan.gain * chosen["intensity"]
    return _intensity(moved, gain, rng), relabelled.squeeze(1).to(labels.dtype)


def retone(images: Tensor, chance: float, rng: np.random.Generator) -> Tensor:
    """Give some of the images (B, 1, S, S) in [0, 1] a random monotone tone curve.

    Black stays black and white white; between them eight straight pieces climb by shares drawn from a
    Dirichlet distribution (0.6). So a model meets other windows, gammas and devices than its training
    images had (after the non-linear transform of Models Genesis, arXiv 1908.06912).
    """
    chosen = np.flatnonzero(rng.random(len(images)) < chance) if chance else np.empty(0, int)
    if not len(chosen):
        return images
    climbs = rng.dirichlet(np.full(TONE_PIECES, TONE_CONCENTRATION), len(chosen)).cumsum(1)
    knots = np.pad(climbs, ((0, 0), (1, 0))).clip(0, 1).astype(np.float32)
    heights = torch.from_numpy(knots).to(images.device)
    place = images[chosen].flatten(1).clamp(0, 1) * TONE_PIECES
    piece = place.floor().clamp(max=TONE_PIECES - 1).long()
    low, high = heights.gather(1, piece), heights.gather(1, piece + 1)
    toned = images.clone()
    toned[chosen] = (low + (high - low) * (place - piece)).view_as(images[chosen])
    return toned


def _speckle(images: Tensor, most: float, rng: np.random.Generator) -> Tensor:
    if most == 0:
        return images
    noise = rng.standard_normal(images.shape, dtype=np.float32)
    noise *= rng.uniform(0, most, (len(images), 1, 1, 1)).astype(np.float32)
    return (images * (1 + torch.from_numpy(noise).to(images.device))).clamp(0, 1)


def _chosen(count: int, plan: Augmentation, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Kind of change -> (B,) whether an image gets it."""
    if not plan.operations:
        return {kind: np.ones(count, bool) for kind in KINDS}
    ranks = rng.random((count, len(KINDS))).argsort(axis=1)
    return {kind: ranks[:, place] < plan.operations for place, kind in enumerate(KINDS)}


def _affine(
    chosen: dict[str, np.ndarray], plan: Augmentation, rng: np.random.Generator
) -> np.ndarray:
    """(B, 2, 3) float32: output coordinates in [-1, 1] -> input coordinates."""
    count = len(chosen["rotation"])
    radians = np.deg2rad(rng.uniform(-1, 1, count) * plan.rotation_degrees) * chosen["rotation"]
    scale = np.where(chosen["scale"], rng.uniform(plan.crop, plan.enlarge, count), 1.0)
    room = np.maximum(1 - scale, 0)[:, None]
    shift = rng.uniform(-1, 1, (count, 2)) * room
    mirror = np.where(rng.random(count) < 0.5, -1.0, 1.0) if plan.flip else np.ones(count)
    mirror[~chosen["flip"]] = 1.0
    cosine, sine = scale * np.cos(radians), scale * np.sin(radians)
    rows = np.stack([cosine * mirror, -sine, shift[:, 0], sine * mirror, cosine, shift[:, 1]], 1)
    affine = rows.reshape(count, 2, 3)
    if plan.shear_degrees:
        angles = rng.uniform(-1, 1, count) * plan.shear_degrees * chosen["shear"]
        affine[:, :, 1] += affine[:, :, 0] * np.tan(np.deg2rad(angles))[:, None]
    if plan.shift:
        affine[:, :, 2] += (
            2 * plan.shift * rng.uniform(-1, 1, (count, 2)) * chosen["shift"][:, None]
        )
    return affine.astype(np.float32)


def _zoom(
    affine: np.ndarray, labels: Tensor, plan: Augmentation, rng: np.random.Generator
) -> list[int]:
    """Change the maps of some images, in place, to a square about one object; return which."""
    chosen = np.flatnonzero(rng.random(len(labels)) < plan.zoom_chance).tolist()
    size = labels.shape[-1]
    close = []
    for index in chosen:
        parts = objects(labels[index].cpu().numpy().astype(np.uint8))
        if not parts:
            continue
        x0, y0, x1, y1 = tight_box(parts[rng.integers(len(parts))])
        side = max(x1 - x0, y1 - y0)
        scale = min(1.0, side * rng.uniform(1.4, 3.0) / size)
        before = np.hypot(affine[index, 0, 0], affine[index, 1, 0])
        affine[index, :, :2] *= scale / before
        centre = np.array([x0 + x1, y0 + y1]) / size - 1
        affine[index, :, 2] = centre + rng.uniform(-0.15, 0.15, 2) * side / size
        close.append(index)
    return close


def _intensity(images: Tensor, gain: np.ndarray, rng: np.random.Generator) -> Tensor:
    if not gain.any():
        return images
    gain = gain.reshape(-1, 1, 1, 1)
    factor = torch.from_numpy(1 + rng.uniform(-gain, gain).astype(np.float32))
    gamma = torch.from_numpy(2 ** rng.uniform(-gain, gain).astype(np.float32))
    device = images.device
    return (images.clamp(0, 1) ** gamma.to(device) * factor.to(device)).clamp(0, 1)
