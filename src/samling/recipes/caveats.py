"""caveats: what one must know of the figures on a page, in sentences beside the first of them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samling.data.store import Store

_NAMED = 5
Trained = Mapping[tuple[str, str], frozenset[str]]
"""(method, data set as the page calls it) -> names of the sets that the method was trained on."""


def seen_before(trained: Trained, own: Mapping[str, str]) -> list[str]:
    """Methods that know the sets which are measured, or whose other sets might hold such images.

    One sentence for all that share their sets: whichever way of sharing needs fewer of them.

    Args:
        trained: of every method. own: data set as the page calls it -> its store's name.
    """
    told = _same_sets(trained, own)
    others = {key: sets - {own[key[1]]} for key, sets in trained.items()}
    concerned = {key: trained[key] for key, sets in others.items() if sets}
    ways = [_together(others), _together(concerned)]
    return [*told, *min(ways, key=len)]


def _same_sets(trained: Trained, own: Mapping[str, str]) -> list[str]:
    """Methods that know the very set which is measured, though not these images of it."""
    sets: dict[str, list[str]] = {}
    for (method, store), names in trained.items():
        if own[store] in names:
            sets.setdefault(method, []).append(store)
    methods: dict[tuple[str, ...], list[str]] = {}
    for method, stores in sets.items():
        methods.setdefault(tuple(stores), []).append(method)
    return [
        f"{_listed(who)} {'was' if len(who) == 1 else 'were'} trained on other images of "
        f"{_listed(stores)}: measured here is more of the same, not a new organ or hospital."
        for stores, who in methods.items()
    ]


def _together(sets: Trained) -> list[str]:
    stores: dict[tuple[frozenset[str], str], list[str]] = {}
    for (method, store), names in sets.items():
        if names:
            stores.setdefault((names, method), []).append(store)
    methods: dict[tuple[frozenset[str], tuple[str, ...]], list[str]] = {}
    for (names, method), where in stores.items():
        methods.setdefault((names, tuple(where)), []).append(method)
    return [
        f"{_listed(who)} {'was' if len(who) == 1 else 'were'} trained on {_listed(sorted(names))}: "
        f"if images of those sets are in {_listed(where)} under another name, the scores there "
        f"flatter {'it' if len(who) == 1 else 'them'}."
        for (names, where), who in methods.items()
    ]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def unfinished(epochs: Mapping[str, tuple[int, int] | None]) -> list[str]:
    """Runs whose training goes on, or was interrupted, in one sentence.

    Args:
        epochs: as the page calls it -> what `epochs_of` said when it was measured.
    """
    found = [
        f"{called} ({count[0]} of {count[1]} epochs)"
        for called, count in epochs.items()
        if count is not None and count[0] < count[1]
    ]
    if not found:
        return []
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return [
        f"The training of {_listed(found[:_NAMED])}{more} is not finished: what is used here is the best "
        "so far (before the first epoch its start), its mask threshold not chosen yet."
    ]


def crossing(store: "Store", called: str) -> list[str]:
    """Whether patients are on both sides of the split of a store, which the page calls so."""
    from samling.data.splits import crossing_groups

    count = len(crossing_groups(store.splits, [store.meta(id) for id in store.ids]))
    if not count:
        return []
    return [
        f"{count} groups (patients) of {called} are in several parts of its split "
        f"({store.splits.rule}): scores on it flatter what was trained on it and say little about a "
        "new patient."
    ]
