"""Protocols: how a model is asked about one image, by name, the same way every time."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from samling.data.case import Case
from samling.errors import InputError
from samling.inference.card import Card, PromptKind
from samling.inference.segmenter import EncodedImage, Object
from samling.prompts.prompt import Prompt
from samling.prompts.sampling import components, correct, prompt_of, simulate

BoolArray = NDArray[np.bool_]
E = TypeVar("E")


class Asked(Protocol[E]):
    """What evaluation needs of a segmenter; `inference.segmenter.Segmenter` is one."""

    card: Card

    def encode(self, image: NDArray[np.float32]) -> E:
        """Run the encoder once."""
        ...

    def segment_encoded(self, encoded: E, prompts: Sequence[Prompt]) -> list[Object]:
        """One object per prompt; any number for an automatic one."""
        ...

    def decode_square(
        self, encoded: E, prompts: Sequence[Prompt]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(P, 4h, 4w) low-resolution logits and (P,) predicted IoU."""
        ...


AnySegmenter = Asked[EncodedImage]


@dataclass(frozen=True)
class Answer:
    """What was asked of a segmenter about one image, and what it said."""

    prompts: tuple[Prompt, ...]
    objects: tuple[Object, ...]
    mask: BoolArray
    """(H, W) all objects together."""

    @property
    def quality(self) -> float | None:
        """Mean quality (predicted IoU) of the objects; None without any."""
        found = [item.quality for item in self.objects]
        return float(np.mean(found)) if found else None


def truth(case: Case) -> BoolArray:
    """(H, W) all labelled pixels of a case, whatever their class."""
    if case.labels is None:
        raise ValueError(f"case {case.id} has no labels")
    return case.labels > 0


def kind_of(protocol: str) -> PromptKind:
    """The kind of prompt that a protocol gives.

    Raises:
        InputError: there is no such protocol.
    """
    if protocol == "auto":
        return "automatic"
    try:
        prompt = prompt_of(np.ones((8, 8), dtype=bool), protocol, np.random.default_rng(0))
    except ValueError as error:
        raise InputError("--prompts", str(error), "give e.g. box,jitter10,point1,auto") from None
    return "points" if prompt.box is None else "box"


def generator(seed: int, case_id: str, protocol: str) -> np.random.Generator:
    """Random numbers of one image and protocol: the same in every run and every order of images."""
    digest = hashlib.sha256(f"{seed}|{case_id}|{protocol}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))


def ask(segmenter: Asked[E], encoded: E, case: Case, protocol: str, seed: int) -> Answer | None:
    """Ask about one encoded case; None if there is nothing that the protocol could point at."""
    label = truth(case)
    rng = generator(seed, case.id, protocol)
    prompts = simulate(label, protocol, rng)
    if not prompts:
        return None
    objects = segmenter.segment_encoded(encoded, prompts)
    if protocol.startswith("clicks"):
        for _ in range(int(protocol.removeprefix("clicks")) - 1):
            prompts = _corrected(segmenter, encoded, label, prompts, objects, rng)
            objects = segmenter.segment_encoded(encoded, prompts)
    return Answer(tuple(prompts), tuple(objects), union(objects, label.shape))


def union(objects: Sequence[Object], shape: tuple[int, ...]) -> BoolArray:
    """(H, W) all objects together."""
    mask = np.zeros(shape, dtype=bool)
    for item in objects:
        mask |= item.mask
    return mask


def _corrected(
    segmenter: Asked[E],
    encoded: E,
    label: BoolArray,
    prompts: list[Prompt],
    objects: list[Object],
    rng: np.random.Generator,
) -> list[Prompt]:
    """One more click per object; the mask so far goes along if the model was trained for that."""
    lesions = components(label)
    clicked = [
        correct(prompt, lesion, item.mask, rng)
        for prompt, lesion, item in zip(prompts, lesions, objects, strict=True)
    ]
    if "mask" not in segmenter.card.prompts:
        return clicked
    low, _ = segmenter.decode_square(encoded, prompts)
    return [replace(prompt, mask=plane) for prompt, plane in zip(clicked, low, strict=True)]
