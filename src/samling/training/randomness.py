"""Restartable randomness: every draw is a function of (seed, epoch, step, purpose)."""

import zlib

import numpy as np
import torch


def generator(seed: int, purpose: str, epoch: int = 0, step: int = 0) -> np.random.Generator:
    """A generator that is the same whenever the same epoch and step are reached, resumed or not."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), epoch, step])


def seed_weights(seed: int) -> None:
    """Seed PyTorch's global generator; only new weights are drawn from it."""
    torch.manual_seed(seed)
