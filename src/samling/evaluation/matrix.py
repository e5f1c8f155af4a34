"""Overlay matrix: image, truth and the answer of every method, one row per image."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samling.evaluation.overlays import Tile, write_sheet
from samling.evaluation.protocols import truth
from samling.evaluation.run import Cases
from samling.prompts.prompt import Prompt

BoolArray = NDArray[np.bool_]
ROWS = 4
_TILE_PX = 260


def drawn_by_lot(ids: Sequence[str], count: int = ROWS) -> list[str]:
    """Ids of the images to show: by a hash of their names, so that nobody picks the pretty ones."""
    lots = sorted(ids, key=lambda id: hashlib.sha256(id.encode()).hexdigest())
    return sorted(lots[:count])


def write_matrix(
    path: Path,
    store: Cases,
    ids: Sequence[str],
    answers: Mapping[str, Mapping[str, tuple[BoolArray, Sequence[Prompt], float]]],
) -> Path | None:
    """Draw the matrix as PNG; None without images or methods.

    Args:
        path: to write.
        store: where the images are.
        ids: one row each.
        answers: method -> id -> mask (H, W), prompts and Dice; a missing one stays empty.
    """
    tiles: list[Tile] = []
    for id in ids:
        case = store.case(id)
        label = truth(case)
        nothing = np.zeros(label.shape, dtype=bool)
        tiles.append(Tile(case.image, nothing, nothing, (), _short(id)))
        tiles.append(Tile(case.image, label, nothing, (), "truth"))
        for method, found in answers.items():
            if id in found:
                mask, prompts, dice = found[id]
                caption = f"{_short(method)}\nDice {dice:.3f}"
                tiles.append(Tile(case.image, label, mask, prompts, caption))
            else:
                tiles.append(Tile(case.image, nothing, nothing, (), f"{_short(method)}\nno answer"))
    if not ids or not answers:
        return None
    return write_sheet(path, tiles, columns=2 + len(answers), side=_TILE_PX)


def _short(text: str) -> str:
    return text if len(text) <= 30 else text[:29] + "…"
