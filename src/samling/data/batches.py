"""Batches: the cases of some stores at model size, in memory, in an order that can be replayed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samling.data.intensity import Intensity, to_model
from samling.data.splits import TrainSplit, ValSplit
from samling.data.store import Store
from samling.prompts.frame import Fit, Frame
from samling.prompts.sampling import objects, tight_box
from samling.prompts.zoom import region_around


@dataclass(frozen=True)
class Planes:
    """N cases at model size. Bytes, so that 20,000 images fit in 3 GB.

    Args:
        images: (N, S, S) grey, 0..255 for [0, 1].
        labels: (N, S, S) classes, 0 for none.
        names: `<store>/<case id>` of each.
        inner: (N, 2) height and width of what is image, from the upper left corner; None: all of it.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    names: tuple[str, ...]
    inner: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def padding(self) -> NDArray[np.bool_]:
        """(N, S, S) which pixels are no image."""
        side = np.arange(self.images.shape[-1])
        inner = np.full((len(self), 2), len(side)) if self.inner is None else self.inner
        below, right = (side >= inner[:, k, None] for k in (0, 1))
        return below[:, :, None] | right[:, None, :]

    def tensors(self, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Images (B, 1, S, S) float32 in [0, 1] and labels (B, S, S) float32: classes, 0 for none."""
        images = torch.from_numpy(self.images[indices]).unsqueeze(1).float() / 255
        return images, torch.from_numpy(self.labels[indices]).float()


def read_planes(
    parts: Sequence[tuple[Store, TrainSplit | ValSplit]],
    input_size: int,
    intensity: Intensity | None = None,
    fit: Fit = "pad",
) -> Planes:
    """Read cases of training or validation at model size. There is no way to pass a test split."""
    inner: list[tuple[int, int]] = []
    images: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.uint8]] = []
    names: list[str] = []
    for store, split in parts:
        for case_id in split.ids:
            case = store.case(case_id)
            height, width = case.image.shape
            frame = Frame(height, width, input_size, fit)
            inner.append(frame.inner)
            images.append(np.rint(to_model(case.image, frame, intensity) * 255).astype(np.uint8))
            label = np.zeros_like(case.image, np.uint8) if case.labels is None else case.labels
            labels.append(frame.labels_to_model(label))
            names.append(f"{store.name}/{case_id}")
    shape = (0, input_size, input_size)
    return Planes(
        np.stack(images) if images else np.zeros(shape, np.uint8),
        np.stack(labels) if labels else np.zeros(shape, np.uint8),
        tuple(names),
        np.array(inner, np.int64).reshape(-1, 2),
    )


def close_ups(planes: Planes, factor: float) -> Planes:
    """The largest object of every case, alone, in a square of `factor` times its tight box.

    Made from the planes, so a little softer than what `Segmenter` sees; cases without object drop out.
    """
    found = [
        (index, parts[0]) for index, label in enumerate(planes.labels) if (parts := objects(label))
    ]
    size = planes.images.shape[-1]
    images, labels = np.zeros((2, len(found), size, size), np.uint8)
    for number, (index, part) in enumerate(found):
        left, top, right, bottom = region_around(tight_box(part), factor, size, size)
        frame = Frame(bottom - top, right - left, size)
        crop = planes.images[index, top:bottom, left:right]
        images[number] = np.rint(to_model(crop, frame) * 255)
        labels[number] = frame.labels_to_model(part[top:bottom, left:right].astype(np.uint8))
    return Planes(images, labels, tuple(planes.names[index] for index, _ in found))


def epoch_batches(
    count: int, batch_size: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """A random order of `count` cases in batches of `batch_size`; the last one may be smaller."""
    yield from _batches(rng.permutation(count), batch_size)


def balanced_batches(
    planes: Planes,
    exponent: float,
    batch_size: int,
    rng: np.random.Generator,
    count: int | None = None,
) -> Iterator[NDArray[np.int64]]:
    """Batches of `count` cases, of every store in proportion to its size ** `exponent`.

    1 leaves the stores as large as they are (every case once, if `count` is None, which means as many
    cases as there are), 0 makes them equal. A case of a large store may be left out of an epoch;
    one of a small store comes several times.
    """
    stores = np.array([name.partition("/")[0] for name in planes.names])
    names, sizes = np.unique(stores, return_counts=True)
    share = sizes**exponent / np.sum(sizes**exponent)
    drawn = []
    wanted = np.rint(share * (count or len(planes))).astype(int)
    for name, amount in zip(names, wanted, strict=True):
        own = np.flatnonzero(stores == name)
        rounds = [rng.permutation(own) for _ in range(-(-amount // len(own)))]
        drawn.append(np.concatenate(rounds)[:amount] if rounds else own[:0])
    yield from _batches(rng.permutation(np.concatenate(drawn)), batch_size)


def _batches(order: NDArray[np.int64], batch_size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
