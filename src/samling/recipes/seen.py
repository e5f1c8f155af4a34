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


def beside_base(trained_on: Sequence[str], base_sha256: str) -> tuple[frozenset[str], bool]:
    """Sets that a model was trained on beside those of the base that ships, and whether it is made of it.

    Args:
        trained_on, base_sha256: of the model's card.
    """
    base = Card.model_validate_json((_WEIGHTS / "base.json").read_bytes())
    made_of_it = base_sha256 == base.base_sha256
    return frozenset(trained_on) - frozenset(base.trained_on if made_of_it else ()), made_of_it


def seen_among(store: "Store", ids: Sequence[str], called: str) -> str:
    """A sentence: how many of these images of a store are copies of training images of the base.

    Args:
        store: the images. ids: which of them.
        called: the store, as the page calls it.
    """
    with (_WEIGHTS / SEEN).open("rb") as file:
        hashes = np.load(file, allow_pickle=False)
    images = (store.case(id).image for id in ids)
    planes = (image if image.ndim == 2 else image[len(image) // 2] for image in images)
    seen = [
        id for id, plane in zip(ids, planes, strict=True) if known_among(hashes, plane) is not None
    ]
    among = f"of the {len(ids):,} images of {called} measured here"
    known = f"the {len(hashes):,} that the base was trained on"
    how = "(looked for by content: mirrored, turned, resized and recompressed copies, not crops)"
    if not seen:
        return f"None {among} is a copy of one of {known} {how}."
    named = ", ".join(seen[:_NAMED]) + (", …" if len(seen) > _NAMED else "")
    are = "is a copy of one" if len(seen) == 1 else "are copies"
    return f"{len(seen):,} {among} {are} of {known}: {named} {how}. Their scores flatter."
