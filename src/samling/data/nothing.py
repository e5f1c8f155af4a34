"""Pictures of nothing: speckle, echoes and black, on which automatic mode learns to find nothing.

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
    images: Tensor, labels: Tensor, chance: float, rng: np.random.Generator, spared: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Put pictures of nothing in the place of some images (B, C, S, S) in [0, 1], labels (B, S, S) 0.

    Each keeps the outline of the image that it replaces: its padding, and what was black around a fan.

    Args:
        spared: (B,) bool on the CPU, which images stay as they are.

    Returns:
        Images, labels, and (B,) bool on the CPU, which of them show nothing.
    """
    if not chance:
        return images, labels, torch.zeros(len(images), dtype=torch.bool)
    empty = (rng.random(len(images)) < chance) & ~spared.numpy()
    images, labels = images.clone(), labels.clone()
    for index in np.flatnonzero(empty):
        inside = _inside(images[index].amax(0).cpu().numpy() > 0)
        images[index] = torch.from_numpy(_nothing(len(inside), rng) * inside).to(images)
        labels[index] = 0
    return images, labels, torch.from_numpy(empty)


def _inside(shown: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(S, S) all but the black that reaches the edge: a black cyst is no hole in its picture."""
    _, numbers = cv2.connectedComponents((~shown).astype(np.uint8))
    edges = np.concatenate([numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1]])
    return ~np.isin(numbers, edges[edges > 0])


def _nothing(size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(S, S) from 0 to 1, as every picture is shown: speckle that fades with depth, echoes, or black."""
    if rng.random() < 0.1:
        return np.zeros((size, size), dtype=np.float32)
    blur = math.exp(rng.uniform(*np.log(BLURS)))
    noise = cv2.GaussianBlur(rng.rayleigh(size=(size, size)), (0, 0), blur)
    picture = (noise - noise.min()) / np.ptp(noise)
    depth = np.linspace(0, 1, size)[:, None]
    if rng.random() < 0.5:  # echoes of the probe's own face, each weaker than the one before
        period = rng.uniform(0.03, 0.2)
        bands = np.exp(-(((depth / period) % 1 - 0.5) ** 2) / rng.uniform(0.005, 0.1))
        picture = picture * rng.uniform(0, 1) + bands * rng.uniform(0.2, 1)
    picture = picture * np.exp(-depth * rng.uniform(0, 6))
    return ((picture - picture.min()) / np.ptp(picture)).astype(np.float32)
