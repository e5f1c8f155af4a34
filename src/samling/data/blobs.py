"""Made-up objects in real pictures: who is asked for them by a box learns to follow boxes.

Labels show a few organs; boxes are drawn about others, too. A smooth outline of any size, darker or
brighter than what was there or hardly different, with a wall or without one, is a stand-in for them
(learning from made-up shapes: Billot et al. 2023, SynthSeg, arXiv 2107.09559).
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

SMALLEST, LARGEST = 0.05, 0.42
"""The longer half axis, as a share of the picture."""
WAVES = range(2, 7)
TRIES = 10


def with_blobs(
    images: Tensor, labels: Tensor, chance: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Give some images (B, C, S, S) in [0, 1] a made-up object; labels (B, S, S) then show it alone.

    Returns:
        Images, labels, and (B,) bool on the CPU, which of them have one: what their labels say about
        organs is not true.
    """
    if not chance:
        return images, labels, torch.zeros(len(images), dtype=torch.bool)
    made_up = rng.random(len(images)) < chance
    before, images, labels = images, images.clone(), labels.clone()
    for index in np.flatnonzero(made_up):
        shown = before[index].amax(0).cpu().numpy() > 0
        depth, angle = (plane.to(images.device) for plane in _outline(shown, rng))
        other = before[rng.integers(len(before))]
        images[index] = _painted(before[index], other, depth, angle, rng)
        labels[index] = (depth > 0).to(labels.dtype)
    return images, labels, torch.from_numpy(made_up)


def _outline(shown: NDArray[np.bool_], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """(S, S) depth below a wavy ellipse's outline, about in pixels, and the angle about its centre.

    The centre lies where something is shown, not in the padding, if such a place is soon found.
    """
    size = len(shown)
    longer = size * math.exp(rng.uniform(math.log(SMALLEST), math.log(LARGEST)))
    shorter = longer * rng.uniform(0.45, 1.0)
    for _ in range(TRIES):
        centre_x, centre_y = rng.uniform(longer, size - longer, 2)
        if shown[int(centre_y), int(centre_x)]:
            break
    turn = rng.uniform(0, math.pi)
    axis = torch.arange(size) + 0.5
    y, x = torch.meshgrid(axis - centre_y, axis - centre_x, indexing="ij")
    u = (x * math.cos(turn) + y * math.sin(turn)) / longer
    v = (y * math.cos(turn) - x * math.sin(turn)) / shorter
    angle = torch.atan2(v, u)
    roughness = rng.choice([0.0, 0.1, 0.3])
    reach = 1 + sum(
        roughness / k * rng.standard_normal() * torch.cos(k * angle + rng.uniform(0, 2 * math.pi))
        for k in WAVES
    )
    return (reach.clamp(min=0.3) - torch.hypot(u, v)) * shorter, angle


def _painted(
    image: Tensor, other: Tensor, depth: Tensor, angle: Tensor, rng: np.random.Generator
) -> Tensor:
    """(C, S, S): the object in an image, of its own texture or that of another, smoothed or noisy."""
    texture = other if rng.random() < 0.4 else image
    if rng.random() < 0.5:
        texture = F.avg_pool2d(texture.unsqueeze(0), 7, stride=1, padding=3).squeeze(0)
    # From hardly different to one level: black as what holds fluid (most), any grey, white as bone
    strength = rng.uniform(0.1, 0.95)
    level = rng.choice([0.0, rng.uniform(0, 1), 1.0], p=[0.5, 0.35, 0.15])
    filled = texture * (1 - strength) + level * strength
    if rng.random() < 0.4:
        noise = torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32))
        filled = filled + rng.uniform(0, 0.15) * noise.to(image.device)
    inside = torch.sigmoid(depth / rng.uniform(0.4, 3.0))
    painted = image * (1 - inside) + filled * inside
    if rng.random() < 0.5:
        painted = _walled(painted, depth, angle, rng)
    return painted.clamp(0, 1)


def _walled(painted: Tensor, depth: Tensor, angle: Tensor, rng: np.random.Generator) -> Tensor:
    """A bright wall, sometimes a dark one; often only where it faces the probe."""
    thickness, strength = rng.uniform(0.8, 5.0), rng.uniform(0.1, 0.8)
    one_sided = rng.uniform(0, 1.5)
    facing = (1 + one_sided * torch.cos(angle - rng.uniform(0, 2 * math.pi))).clamp(0, 1)
    wall = strength * facing * torch.exp(-((depth / thickness) ** 2))
    return painted + (1 - painted) * wall if rng.random() < 0.75 else painted * (1 - wall)
