"""Batches: the cases of some stores at model size, in memory, in an order that can be replayed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samling.data.case import Case
from samling.data.intensity import Intensity, slab_to_model, to_model
from samling.data.splits import TrainSplit, ValSplit
from samling.data.store import Store
from samling.errors import InputError
from samling.prompts.frame import Fit, Frame
from samling.prompts.sampling import objects, tight_box
from samling.prompts.zoom import region_around


@dataclass(frozen=True)
class Planes:
    """N cases at model size. Bytes, so that 20,000 images fit in 3 GB.

    Args:
        images: (N, S, S) grey, 0..255 for [0, 1]; (N, 3, S, S) with the slices before and after.
        labels: (N, S, S) classes, 0 for none.
        names: `<store>/<case id>` of each.
        known: (N, K) whether a case's labels would show class k + 1; None: they show all.
        inner: (N, 2) height and width of what is image, from the upper left corner; None: all of it.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    names: tuple[str, ...]
    known: NDArray[np.bool_] | None = None
    inner: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def tensors(self, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Images (B, 1 | 3, S, S) float32 in [0, 1] and labels (B, S, S) float32: classes, 0 for none."""
        images = torch.from_numpy(self.images[indices]).float() / 255
        images = images.unsqueeze(1) if images.ndim == 3 else images
        return images, torch.from_numpy(self.labels[indices]).float()

    def knows(self, indices: NDArray[np.int64], classes: int) -> Tensor:
        """(B, K) bool: which classes the labels of some cases would show."""
        if self.known is None:
            return torch.ones(len(indices), classes, dtype=torch.bool)
        return torch.from_numpy(self.known[indices])


def read_planes(
    parts: Sequence[tuple[Store, TrainSplit | ValSplit]],
    input_size: int,
    intensity: Intensity | None = None,
    classes: tuple[str, ...] = (),
    *,
    fit: Fit = "pad",
    unlabelled: bool = False,
) -> Planes:
    """Read cases of training or validation at model size. There is no way to pass a test split.

    Args:
        intensity: what is done to values; neighbouring slices come with a store that reads them.
        classes: names of the class numbers wanted; empty: each store's own numbers.
        fit: how an image becomes a square.
        unlabelled: cases without labels too, with an empty label: only where labels are not looked at.

    Raises:
        InputError: a window, but a store without Hounsfield units; a label of a class not named.
    """
    inner: list[tuple[int, int]] = []
    images: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.uint8]] = []
    names: list[str] = []
    known: list[NDArray[np.bool_]] = []
    for store, split in parts:
        numbers = class_numbers(store, classes)
        for case_id in split.ids:
            if not (unlabelled or store.meta(case_id).labelled):
                continue
            case = store.case(case_id)
            check_window(store, case_id, intensity)
            plane, frame = plane_of(case, input_size, fit, intensity)
            inner.append(frame.inner)
            images.append(plane)
            label = np.zeros_like(case.image, np.uint8) if case.labels is None else case.labels
            labels.append(numbers[frame.labels_to_model(label)])
            names.append(f"{store.name}/{case_id}")
            known.append(np.array([name in store.classes for name in classes], bool))
    shape = (0, input_size, input_size)
    return Planes(
        np.stack(images) if images else np.zeros(shape, np.uint8),
        np.stack(labels) if labels else np.zeros(shape, np.uint8),
        tuple(names),
        np.stack(known) if classes and known else None,
        np.array(inner, np.int64).reshape(-1, 2),
    )


def plane_of(
    case: Case, side: int, fit: Fit, intensity: Intensity | None = None
) -> tuple[NDArray[np.uint8], Frame]:
    """A case as a model of `side` px sees it, in bytes, (S, S) or (3, S, S), and where it lies there."""
    height, width = case.image.shape
    frame = Frame(height, width, side, fit)
    return np.rint(slab_to_model(case.slab, frame, intensity) * 255).astype(np.uint8), frame


def class_numbers(store: Store, classes: tuple[str, ...]) -> NDArray[np.uint8]:
    """(256,) table: class number of a store -> number among `classes` (the same if empty).

    Raises:
        InputError: the store has a class that is not among them.
    """
    numbers = np.arange(256, dtype=np.uint8)
    for number, name in enumerate(store.classes, start=1):
        if classes and name not in classes:
            problem = f"has labels of the class '{name}', which the recipe does not know"
            remedy = f"its classes.names are {', '.join(classes)}: name all, or none"
            raise InputError(store.path, problem, remedy)
        numbers[number] = classes.index(name) + 1 if classes else number
    return numbers


def check_window(store: Store, case_id: str, intensity: Intensity | None) -> None:
    """Refuse a window for values that are no Hounsfield units.

    Raises:
        InputError: naming store and case.
    """
    if intensity is not None and intensity.window and not store.meta(case_id).hounsfield:
        problem = f"has no Hounsfield units in '{case_id}', which a window needs"
        raise InputError(store.path, problem, "leave the window out: intensity.window=null")


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
