"""seen: which images the base that ships was trained on, told by content."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from samling.data.picture_hash import known_among
from samling.inference.card import Card
from samling.recipes.identity import SHIPPED

if TYPE_CHECKING:
    from samling.data.store import Store

SEEN = "seen.npy"
"""Picture hashes (N, 32) of the training images of the base that ships, beside its weights."""
_NAMED = 5


def made_of_base(base_sha256: str) -> bool:
    """Whether a model, by its card's `base_sha256`, is one that ships or an adapter on it."""
    cards = [Card.read(folder / "base.json") for folder in set(SHIPPED.values())]
    return base_sha256 in {card.base_sha256 for card in cards}


def seen_by_base(measured: Mapping[str, tuple["Store", Sequence[str]]]) -> list[str]:
    """Sentences: how many of the measured images are known as training images of the base.

    One for every store with any, and one for all the others together.

    Args:
        measured: store as the page calls it -> the store, and which of its images.
    """
    with (SHIPPED["base"] / SEEN).open("rb") as file:
        hashes = np.load(file, allow_pickle=False)
    known = f"the {len(hashes):,} that the base was trained on"
    blind = "crops, borders, another window and other images of a patient are not recognised"
    said, clean = [], {}
    for called, (store, ids) in measured.items():
        seen = [id for id in ids if known_among(hashes, store.case(id).image) is not None]
        if not seen:
            clean[called] = len(ids)
            continue
        named = ", ".join(seen[:_NAMED]) + (", …" if len(seen) > _NAMED else "")
        were = "was recognised as a copy of one" if len(seen) == 1 else "were recognised as copies"
        said.append(
            f"{len(seen):,} of the {len(ids):,} images of {called} measured here {were} of {known} "
            f"({named}; {blind}): there, the scores of the base and of what is made of it flatter."
        )
    if clean:
        said.append(
            f"None of the {sum(clean.values()):,} images of {', '.join(clean)} measured here was "
            f"recognised as a copy of one of {known} ({blind})."
        )
    return said
