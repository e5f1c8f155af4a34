"""Protocols: how a model is asked about one image, by name, the same way every time."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from samling.data.case import Case
from samling.errors import InputError, meant
from samling.evaluation.damage import DAMAGES, LEVELS, divided
from samling.evaluation.metrics import dice
from samling.inference.card import Card, PromptKind
from samling.inference.segmenter import EncodedImage, Object
from samling.prompts.prompt import Prompt
from samling.prompts.sampling import correct, objects, prompt_of, simulate

BoolArray = NDArray[np.bool_]
MOST_CLICKS = 20
"""Of `noc`: an image that has not reached its Dice by then counts as so many."""
ALL = ("box", "jitter5", "jitter10", "jitter20", "point1", "point3", "point5", "noc90", "auto")
"""What `all` stands for."""
DAMAGED = ("box", *(f"box~{name}{level}" for name in DAMAGES for level in LEVELS))
"""What `damaged` stands for."""
GROUPS = {"all": ALL, "damaged": DAMAGED}
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

    def foreground(self, encoded: E, prompts: Sequence[Prompt]) -> NDArray[np.float32] | None:
        """(H, W) probability that a pixel belongs to any object; None from who knows only masks."""
        ...


AnySegmenter = Asked[EncodedImage]


@dataclass(frozen=True)
class Answer:
    """What was asked of a segmenter about one image, and what it said."""

    prompts: tuple[Prompt, ...]
    objects: tuple[Object, ...]
    mask: BoolArray
    """(H, W) all objects together."""
    clicks: int | None = None
    """How many clicks `noc` took."""

    @property
    def quality(self) -> float | None:
        """Mean quality (predicted IoU) of the objects; None without any, or if nobody predicts it."""
        found = [item.quality for item in self.objects if np.isfinite(item.quality)]
        return float(np.mean(found)) if found else None


def seen_by(segmenter: Asked[E], case: Case) -> NDArray[np.float32]:
    """What a segmenter is shown of a case: (H, W), or (3, H, W) with its neighbours."""
    return case.slab if segmenter.card.slices == 3 else case.image


def truth(case: Case) -> BoolArray:
    """(H, W) all labelled pixels of a case, whatever their class."""
    return classes_of(case) > 0


def classes_of(case: Case) -> NDArray[np.uint8]:
    """(H, W) classes, 0 for none."""
    if case.labels is None:
        raise ValueError(f"case {case.id} has no labels")
    return case.labels


def kinds_of(protocol: str) -> tuple[PromptKind, ...]:
    """The kinds of prompt that a protocol gives, the first one first.

    >>> kinds_of("jitter10"), kinds_of("boxclicks3")
    (('box',), ('box', 'points'))

    Raises:
        InputError: there is no such protocol.
    """
    protocol, _ = divided(protocol)
    if protocol == "auto":
        return ("automatic",)
    try:
        prompt = prompt_of(np.ones((8, 8), dtype=bool), protocol, np.random.default_rng(0))
    except ValueError as error:
        remedy = meant(protocol, (*ALL, *GROUPS)) or "give e.g. box,jitter10,point1,auto"
        raise InputError("--prompts", str(error), remedy) from None
    if prompt.box is None:
        return ("points",)
    return ("box",) if clicking(protocol)[0] == 1 else ("box", "points")


def generator(seed: int, case_id: str, protocol: str) -> np.random.Generator:
    """Random numbers of one image and protocol: the same in every run and every order of images."""
    digest = hashlib.sha256(f"{seed}|{case_id}|{protocol}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))


def ask(segmenter: Asked[E], encoded: E, case: Case, protocol: str, seed: int) -> Answer | None:
    """Ask about one encoded case; None if there is nothing that the protocol could point at."""
    label = truth(case)
    rng = generator(seed, case.id, protocol)
    prompts = simulate(classes_of(case), protocol, rng)
    if not prompts:
        return None
    answered = segmenter.segment_encoded(encoded, prompts)
    most, goal = clicking(protocol)
    clicks = 1
    while clicks < most and dice(label, union(answered, label.shape)) < goal:
        lesions = objects(classes_of(case))
        prompts = _corrected(segmenter, encoded, lesions, prompts, answered, rng)
        answered = segmenter.segment_encoded(encoded, prompts)
        clicks += 1
    counted = clicks if protocol.startswith("noc") else None
    return Answer(tuple(prompts), tuple(answered), union(answered, label.shape), counted)


def clicking(protocol: str) -> tuple[int, float]:
    """Most prompts of a protocol (a box or a click each), and the Dice that ends them (above 1: none).

    >>> clicking("clicks3"), clicking("boxclicks3"), clicking("noc90"), clicking("box")
    ((3, 2.0), (4, 2.0), (20, 0.9), (1, 2.0))
    """
    if protocol.startswith("boxclicks"):
        return 1 + int(protocol.removeprefix("boxclicks")), 2.0
    if protocol.startswith("clicks"):
        return int(protocol.removeprefix("clicks")), 2.0
    if protocol.startswith("noc"):
        return MOST_CLICKS, int(protocol.removeprefix("noc")) / 100
    return 1, 2.0


def expand(protocols: Sequence[str]) -> list[str]:
    """Names of protocols, each once; `all` stands for `ALL`, `damaged` for `DAMAGED`.

    Raises:
        InputError: there is no such protocol, or none is given.
    """
    if not protocols:
        raise InputError("--prompts", "are empty", "give e.g. box,jitter10,point1,auto")
    names = [name for given in protocols for name in GROUPS.get(given, (given,))]
    for name in names:
        kinds_of(name)
    whole = [divided(name)[0] for name in names]  # level 0, which every damage is compared with
    return list(dict.fromkeys([*whole, *names]))


def union(objects: Sequence[Object], shape: tuple[int, ...]) -> BoolArray:
    """(H, W) all objects together."""
    mask = np.zeros(shape, dtype=bool)
    for item in objects:
        mask |= item.mask
    return mask


def _corrected(
    segmenter: Asked[E],
    encoded: E,
    lesions: list[BoolArray],
    prompts: list[Prompt],
    answered: list[Object],
    rng: np.random.Generator,
) -> list[Prompt]:
    """One more click per object; the mask so far goes along if the model was trained for that.

    Not after a box that is answered from a closer look: the mask is of the whole image.
    """
    clicked = [
        correct(prompt, lesion, item.mask, rng)
        for prompt, lesion, item in zip(prompts, lesions, answered, strict=True)
    ]
    card = segmenter.card
    if "mask" not in card.prompts or (card.zoom is not None and prompts[0].box is not None):
        return clicked
    low, _ = segmenter.decode_square(encoded, prompts)
    return [replace(prompt, mask=plane) for prompt, plane in zip(clicked, low, strict=True)]
