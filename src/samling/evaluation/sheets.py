"""Sheets: which images are shown as best, median, worst or damaged, and drawing them again."""

from collections.abc import Sequence
from pathlib import Path

from samling.data.intensity import Intensity
from samling.evaluation.damage import damaged, divided
from samling.evaluation.overlays import Tile, write_sheet
from samling.evaluation.protocols import Asked, E, ask, generator, seen_by, truth
from samling.evaluation.run import Cases, Row

PER_SHEET = 6
_SIDE_PX = 200


def choose(rows: Sequence[Row], count: int = PER_SHEET) -> dict[str, list[Row]]:
    """Rows to show, by Dice: `best` falling, `median` the middle ones, `worst` rising.

    Rows of one method and protocol; those that don't count are left out. Of a small set each shows fewer,
    no image twice; of `count` images or fewer there is `all`, falling. Ties are ordered by id, so that a
    report does not change from run to run.
    """
    ranked = _ranked(rows)
    if len(ranked) <= count:
        return {"all": ranked}
    count = min(count, len(ranked) // 3)
    start = (len(ranked) - count) // 2
    return {
        "best": ranked[:count],
        "median": ranked[start : start + count],
        "worst": ranked[::-1][:count],
    }


def _ranked(rows: Sequence[Row]) -> list[Row]:
    scored = [row for row in rows if row.dice is not None]
    return sorted(scored, key=lambda row: (-(row.dice or 0.0), row.hd95_px or 0.0, row.id))


def draw_sheets(
    segmenter: Asked[E], store: Cases, rows: Sequence[Row], folder: Path, *, seed: int
) -> dict[str, Path]:
    """Ask again about the chosen images (same prompts, same answers) and write `sheet_<which>.png`.

    Returns:
        best, median, worst, or all -> file; {} if no row counts.
    """
    tiles: dict[str, Tile] = {}
    written: dict[str, Path] = {}
    for which, chosen in choose(rows).items():
        for row in chosen:
            if row.id not in tiles:
                tiles[row.id] = _tile(segmenter, store, row, seed)
        if chosen:
            shown = [tiles[row.id] for row in chosen]
            written[which] = write_sheet(folder / f"sheet_{which}.png", shown)
    return written


def draw_damaged(
    segmenter: Asked[E], store: Cases, rows: Sequence[Row], folder: Path, *, seed: int
) -> dict[str, Path]:
    """Two pictures in all their damages, with the answers, as `sheet_damaged_<which>.png`.

    `typical` is of median Dice where it is not damaged, `hardest` loses most, all damages together. A row
    for every damage: the picture as it was, then its levels. Of several prompts the first that was
    damaged is shown.

    Args:
        rows: of one method.

    Returns:
        typical, hardest -> file; {} if no damage was asked for, or no image counts.
    """
    prompt = next((divided(row.protocol)[0] for row in rows if divided(row.protocol)[1]), "")
    whole = _ranked([row for row in rows if row.protocol == prompt])
    harmed: dict[str, list[Row]] = {row.id: [] for row in whole}
    for row in rows:
        asked, damage = divided(row.protocol)
        if row.dice is not None and asked == prompt and damage and row.id in harmed:
            harmed[row.id].append(row)
    if not whole:
        return {}
    losses = {
        row.id: sum((row.dice or 0) - (bad.dice or 0) for bad in harmed[row.id]) for row in whole
    }
    chosen = {
        "typical": whole[(len(whole) - 1) // 2],
        "hardest": max(whole, key=lambda row: (losses[row.id], row.id)),
    }
    return {
        which: write_sheet(
            folder / f"sheet_damaged_{which}.png",
            *_damages(segmenter, store, row, harmed[row.id], seed),
            side=_SIDE_PX,
        )
        for which, row in chosen.items()
    }


def _damages(
    segmenter: Asked[E], store: Cases, row: Row, harmed: Sequence[Row], seed: int
) -> tuple[list[Tile], int]:
    """Tiles, and how many stand in a line."""
    whole = _tile(segmenter, store, row, seed)
    kinds: dict[str, dict[str, Row]] = {}
    for bad in harmed:
        damage = divided(bad.protocol)[1]
        kinds.setdefault(damage[:-1], {})[damage[-1]] = bad
    levels = sorted({level for kind in kinds.values() for level in kind})
    tiles = []
    for kind in kinds.values():
        tiles.append(whole)
        tiles += [_tile(segmenter, store, kind[n], seed) if n in kind else whole for n in levels]
    return tiles, 1 + len(levels)


def _tile(segmenter: Asked[E], store: Cases, row: Row, seed: int) -> Tile:
    case = store.case(row.id)
    prompt, damage = divided(row.protocol)
    rng = generator(seed, case.id, damage[:-1])
    seen = damaged(seen_by(segmenter, case), damage, rng)
    answer = ask(segmenter, segmenter.encode(seen), case, prompt, seed)
    assert answer is not None
    category = f"  {row.category}" if row.category else ""
    caption = f"{damage or row.id}{category}\nDice {row.dice:.3f}   HD95 {row.hd95_px:.1f} px"
    window = Intensity(segmenter.card.window_hu)  # over all Hounsfield units organs look alike
    image = window.apply(seen if seen.ndim == 2 else seen[1])
    return Tile(image, truth(case), answer.mask, answer.prompts, caption)
