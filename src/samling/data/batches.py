"""Batches: the cases of some stores at model size, in memory, in an order that can be replayed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samling.data.intensity import to_model
from samling.data.splits import TrainSplit, ValSplit
from samling.data.store import Store
from samling.prompts.frame import Frame


@dataclass(frozen=True)
class Planes:
    """N cases at model size. Bytes, so that 20,000 images fit in 3 GB.

    Args:
        images: (N, S, S) grey, 0..255 for [0, 1].
        labels: (N, S, S) 0 or 1.
        names: `<store>/<case id>` of each.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def tensors(self, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Images (B, 1, S, S) float32 in [0, 1] and labels (B, S, S) float32 in {0, 1}."""
        images = torch.from_numpy(self.images[indices]).unsqueeze(1).float() / 255
        return images, torch.from_numpy(self.labels[indices]).float()


def read_planes(parts: Sequence[tuple[Store, TrainSplit | ValSplit]], input_size: int) -> Planes:
    """Read cases of training or validation at model size. There is no way to pass a test split."""
    images: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.uint8]] = []
    names: list[str] = []
    for store, split in parts:
        for case_id in split.ids:
            case = store.case(case_id)
            height, width = case.image.shape
            frame = Frame(height, width, input_size)
            images.append(np.rint(to_model(case.image, frame) * 255).astype(np.uint8))
            label = np.zeros_like(case.image, np.uint8) if case.labels is None else case.labels
            labels.append((frame.labels_to_model(label) > 0).astype(np.uint8))
            names.append(f"{store.name}/{case_id}")
    shape = (0, input_size, input_size)
    return Planes(
        np.stack(images) if images else np.zeros(shape, np.uint8),
        np.stack(labels) if labels else np.zeros(shape, np.uint8),
        tuple(names),
    )


def epoch_batches(
    count: int, batch_size: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """A random order of `count` cases in batches of `batch_size`; the last one may be smaller."""
    order = rng.permutation(count)
    for start in range(0, count, batch_size):
        yield order[start : start + batch_size]
