"""leaks: is a picture of one store, or part of it, in another one too? By content, not by name."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from samling.data.leaks import Leak, find_leaks, fingerprint
from samling.data.splits import PARTS
from samling.data.store import Store
from samling.errors import InputError

Progress = Callable[[str], None]


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
    for place in json.loads(path.read_text(encoding="utf-8")).get("stores", []):
        if not Path(place).is_file():
            say(f"{model}: its training images ({place}) are gone; not compared by content")
            continue
        trained = Store.open(place)
        if trained.content_hash == store.content_hash:
            continue
        train = trained.splits.train.ids
        found = _compare(trained, train, f"the training images of {model}", store, ids, store.name)
        if found.pairs:
            remedy = "leave them out, or train on a store that does not have them"
            raise InputError(model, str(found), remedy)


def _compare(
    one: Store, first: Sequence[str], named: str, other: Store, second: Sequence[str], also: str
) -> Found:
    leaks = find_leaks(
        [fingerprint(one.case(id).image) for id in first],
        [fingerprint(other.case(id).image) for id in second],
    )
    return Found(named, also, len(second), [_named(leak, first, second) for leak in leaks])


def _named(leak: Leak, first: Sequence[str], second: Sequence[str]) -> tuple[str, str, float]:
    return first[leak.first], second[leak.second], leak.similarity
