"""Where downloaded weights live: $SAMLING_CACHE or ~/.cache/samling."""

import os
from pathlib import Path

from samling.errors import InputError

NAMED_MODELS = ("base", "base-tiny", "base-zoom", "light", "litemedsam", "untrained")
"""What `recipes/build.py` makes by name. `light` and `litemedsam` need fetched weights."""
UNTAUGHT = ("light", "untrained")
"""Of these, what training begins with and nobody can ask."""

WEIGHT_FILES = {"litemedsam": "lite_medsam.pth"}
LITEMEDSAM_SHA256 = "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76"


def cache_folder() -> Path:
    """The user's cache folder of samling (it need not exist yet)."""
    named = os.environ.get("SAMLING_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "samling"


def cache_limit() -> int:
    """Bytes that teacher embeddings may take: $SAMLING_CACHE_GB or 20 GB.

    Raises:
        InputError: the variable is no positive number.
    """
    named = os.environ.get("SAMLING_CACHE_GB", "20")
    try:
        gigabytes = float(named)
    except ValueError:
        gigabytes = 0.0
    if not 0 < gigabytes < 1e9:
        raise InputError("SAMLING_CACHE_GB", f"{named!r} is no size", "give gigabytes, e.g. 20")
    return int(gigabytes * 1e9)


def weights_path(name: str) -> Path:
    """The file of fetched weights.

    Raises:
        InputError: they were not fetched.
    """
    path = cache_folder() / WEIGHT_FILES[name]
    if not path.is_file():
        raise InputError(name, "its weights are not on this machine", f"run `samling fetch {name}`")
    return path
