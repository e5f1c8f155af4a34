"""leaks: is a picture of one store, or part of it, in another one too? By content, not by name."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samling.data.leaks import find_leaks, fingerprint
from samling.data.splits import PARTS, fold_in
from samling.data.store import Store
from samling.errors import InputError
from samling.inference.card import Card

Progress = Callable[[str], None]
SURE = 0.85


@dataclass(frozen=True)
class Found:
    """Pictures that two lists of cases have in common.

    Args:
        first, second: what was compared, in words. asked: how many of `second`.
        pairs: (id in first, id in second, similarity).
    """

    first: str
    second: str
    asked: int
    pairs: Sequence[tuple[str, str, float]]

    @property
    def certain(self) -> bool:
        """Two pictures, or one that is almost the same: more than chance does among thousands."""
        alike = [value for _, _, value in self.pairs]
        return len({second for _, second, _ in self.pairs}) > 1 or max(alike, default=0) >= SURE

    def __str__(self) -> str:
        """One line, and the three likeliest pairs."""
        twice = len({second for _, second, _ in self.pairs})
        said = f"{twice} of {self.asked} images of {self.second} are in {self.first}"
        best = sorted(self.pairs, key=lambda pair: -pair[2])[:3]
        named = ", ".join(f"{b} is {a} ({value:.2f})" for a, b, value in best)
        return f"{said}: {named}" if named else said


def between_stores(paths: Sequence[Path]) -> list[Found]:
    """Every store against every other, and the parts of each among themselves.

    Raises:
        InputError: a store cannot be opened.
    """
    stores = [Store.open(path) for path in paths]
    found = [leak for store in stores for leak in within(store)]
    for number, one in enumerate(stores):
        for other in stores[number + 1 :]:
            found.append(_compare(one, one.ids, one.name, other, other.ids, other.name))
    return found


def within(store: Store) -> list[Found]:
    """Training against validation and test, validation against test."""
    pairs = [(a, b) for i, a in enumerate(PARTS) for b in PARTS[i + 1 :]]
    return [
        _compare(store, store.splits.ids(a), f"{store.name}'s {a}",
                 store, store.splits.ids(b), f"its {b}")
        for a, b in pairs
    ]  # fmt: skip


def across_folds(store: Store, fold_of: Mapping[str, int]) -> list[tuple[str, str, float]]:
    """Pictures that are in two folds, whatever their groups: (id, id, similarity).

    Fold against fold: within one, the frames of a loop would hide each other's copies elsewhere.
    """
    numbers = sorted(set(fold_of.values()))
    parts = [_Part(store, tuple(id for id in fold_of if fold_of[id] == n)) for n in numbers]
    return [
        (min(a, b), max(a, b), value)
        for number, one in enumerate(parts)
        for other in parts[number + 1 :]
        for a, b, value in _pairs(one, other)
    ]


def other_split(card: Card, store: Store) -> str | None:
    """The split (its hash) of this data set that a model was trained on, if it is not the store's."""
    hashes = (card.split_hash or "").split("+")
    for position, name in enumerate(card.trained_on):
        own = hashes[position] if position < len(hashes) else "unknown"
        if name == store.name and own != store.splits.hash:
            return own
    return None


def refuse_seen_images(model: str, store: Store, ids: Sequence[str], say: Progress) -> None:
    """Refuse to measure a run on images that it was trained on under another name.

    A run knows where its stores lay; a store that is no longer there is passed over, and so is the
    store itself, whose split was checked by its hash.

    Raises:
        InputError: naming the images.
    """
    path = Path(model) / "environment.json"
    if not path.is_file():
        return
    about = json.loads(path.read_text(encoding="utf-8"))
    hashes = {content for _, content in about.get("data", [])}
    for place in about.get("stores", []):
        if not fold_in(Path(place))[0].is_file():
            say(f"{model}: its training images ({place}) are gone; not compared by content")
            continue
        trained = Store.open(place)
        if trained.content_hash not in hashes:
            say(f"{model}: {place} is another store than it was trained on; compared all the same")
        elif trained.content_hash == store.content_hash:
            continue
        train = trained.splits.train.ids
        found = _compare(trained, train, f"the training images of {model}", store, ids, store.name)
        if found.certain:
            remedy = "leave them out, or train on a store that does not have them"
            raise InputError(model, str(found), remedy)
        if found.pairs:
            say(f"{found}: one alone and not quite alike, look at it")


def _compare(
    one: Store, first: Sequence[str], named: str, other: Store, second: Sequence[str], also: str
) -> Found:
    pairs = _pairs(_Part(one, tuple(first)), _Part(other, tuple(second)))
    return Found(named, also, len(second), pairs)


class _Part:
    """Some cases of a store; equal if they are the same ones of the same content."""

    def __init__(self, store: Store, ids: tuple[str, ...]) -> None:
        self.store, self.ids = store, ids
        self.key = store.content_hash, ids

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Part) and self.key == other.key


@lru_cache(maxsize=64)
def _prints(part: _Part) -> list[NDArray[np.float32]]:
    return [fingerprint(part.store.case(id).image) for id in part.ids]


@lru_cache(maxsize=512)  # many methods of a plan were trained on the same images
def _pairs(first: _Part, second: _Part) -> tuple[tuple[str, str, float], ...]:
    leaks = find_leaks(_prints(first), _prints(second))
    return tuple(
        (first.ids[leak.first], second.ids[leak.second], leak.similarity) for leak in leaks
    )
