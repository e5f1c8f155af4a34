"""Pictures of nothing: automatic mode learns on them to find nothing, which no labelled set shows it.

A probe in the air gives speckle, echoes of its own face, or black; sets of pictures that were chosen to
be labelled hold none of these.
"""

import math

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLURS = 0.3, 10.0
"""Least and greatest size of a speckle, as standard deviation of a blur in pixels."""


def with_nothing(
    images: Tensor, labels: Tensor, chance: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Put pictures of nothing in the place of some images (B, C, S, S) in [0, 1], labels (B, S, S) 0.

    Each keeps the outline of the image that it replaces: its padding, and what was black around a fan.

    Returns:
        Images, labels, and (B,) bool on the CPU, which of them show nothing.
    """
    if not chance:
        return images, labels, torch.zeros(len(images), dtype=torch.bool)
    empty = rng.random(len(images)) < chance
    images, labels = images.clone(), labels.clone()
    for index in np.flatnonzero(empty):
        picture = torch.from_numpy(_nothing(images.shape[-1], rng)).to(images)
        images[index] = picture * (images[index].amax(0) > 0)
        labels[index] = 0
    return images, labels, torch.from_numpy(empty)


def _nothing(size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(S, S) in [0, 1]: speckle that fades with depth, bands of echoes, both, or one grey value."""
    if rng.random() < 0.1:
        return np.full((size, size), rng.choice([0.0, rng.random()]), dtype=np.float32)
    blur = math.exp(rng.uniform(*np.log(BLURS)))
    noise = cv2.GaussianBlur(rng.rayleigh(size=(size, size)), (0, 0), blur)
    picture = (noise - noise.min()) / np.ptp(noise)
    depth = np.linspace(0, 1, size)[:, None]
    if rng.random() < 0.5:  # echoes of the probe's own face, each weaker than the one before
        period = rng.uniform(0.03, 0.2)
        bands = np.exp(-(((depth / period) % 1 - 0.5) ** 2) / rng.uniform(0.005, 0.1))
        picture = picture * rng.uniform(0, 1) + bands * rng.uniform(0.2, 1)
    picture = picture * np.exp(-depth * rng.uniform(0, 6)) * rng.uniform(0.3, 1.5)
    return (picture + rng.uniform(-0.1, 0.3)).clip(0, 1).astype(np.float32)
