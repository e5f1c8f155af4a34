"""caveats: what flatters the figures on a page, in sentences that stand beside the first of them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samling.data.store import Store

Trained = Mapping[tuple[str, str], frozenset[str]]
"""(method, data set as the page calls it) -> names of the sets that the method was trained on."""


def seen_before(trained: Trained, own: Mapping[str, str]) -> list[str]:
    """Methods whose training images, of other sets, might be among those measured.

    One sentence for all that share their sets: whichever way of sharing needs fewer of them.

    Args:
        trained: of every method. own: data set as the page calls it -> its store's name.
    """
    others = {key: sets - {own[key[1]]} for key, sets in trained.items()}
    concerned = {key: trained[key] for key, sets in others.items() if sets}
    ways = [_together(others), _together(concerned)]
    return min(ways, key=len)


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
