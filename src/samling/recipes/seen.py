"""seen: which images the base that ships was trained on, told by content."""

from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from samling.data.picture_hash import known_among
from samling.inference.card import Card

if TYPE_CHECKING:
    from samling.data.store import Store

SEEN = "seen.npy"
"""Picture hashes (N, 32) of the training images of the base that ships, beside its weights."""
_NAMED = 5
_WEIGHTS = resources.files("samling") / "weights"


def made_of_base(base_sha256: str | None) -> bool:
    """Whether a model, by its card's `base_sha256`, is the base that ships or an adapter on it."""
    base = Card.model_validate_json((_WEIGHTS / "base.json").read_bytes())
    return base_sha256 == base.base_sha256


def seen_by_base(store: "Store", ids: Sequence[str], called: str) -> str:
    """A sentence: how many of these images of a store are known as training images of the base.

    Args:
        store: the images. ids: which of them.
        called: the store, as the page calls it.
    """
    with (_WEIGHTS / SEEN).open("rb") as file:
        hashes = np.load(file, allow_pickle=False)
    seen = [id for id in ids if known_among(hashes, store.case(id).image) is not None]
    among = f"of the {len(ids):,} images of {called} measured here"
    known = f"the {len(hashes):,} that the base was trained on"
    blind = "crops, borders, another window and other images of a patient are not recognised"
    if not seen:
        return f"None {among} was recognised as a copy of one of {known} ({blind})."
    named = ", ".join(seen[:_NAMED]) + (", …" if len(seen) > _NAMED else "")
    were = "was recognised as a copy of one" if len(seen) == 1 else "were recognised as copies"
    return (
        f"{len(seen):,} {among} {were} of {known} ({named}; {blind}): there, the scores of the base "
        "and of what is made of it flatter."
    )
