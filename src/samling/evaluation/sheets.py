"""Sheets: which images are shown as best, median and worst, and drawing them again."""

from collections.abc import Sequence
from pathlib import Path

from samling.data.intensity import Intensity
from samling.evaluation.overlays import Tile, write_sheet
from samling.evaluation.protocols import Asked, E, ask, seen_by, truth
from samling.evaluation.run import Cases, Row

PER_SHEET = 6


def choose(rows: Sequence[Row], count: int = PER_SHEET) -> dict[str, list[Row]]:
    """Rows to show, by Dice: `best` falling, `median` the middle ones, `worst` rising.

    Rows of one method and protocol; those that don't count are left out. A small set may show an
    image twice. Ties are ordered by id, so that a report does not change from run to run.
    """
    scored = [row for row in rows if row.dice is not None]
    ranked = sorted(scored, key=lambda row: (-(row.dice or 0.0), row.hd95_px or 0.0, row.id))
    start = max(0, (len(ranked) - count) // 2)
    return {
        "best": ranked[:count],
        "median": ranked[start : start + count],
        "worst": ranked[::-1][:count],
    }


def draw_sheets(
    segmenter: Asked[E], store: Cases, rows: Sequence[Row], folder: Path, *, seed: int
) -> dict[str, Path]:
    """Ask again about the chosen images (same prompts, same answers) and write `sheet_<which>.png`.

    Returns:
        best, median, worst -> file; {} if no row counts.
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


def _tile(segmenter: Asked[E], store: Cases, row: Row, seed: int) -> Tile:
    case = store.case(row.id)
    answer = ask(segmenter, segmenter.encode(seen_by(segmenter, case)), case, row.protocol, seed)
    assert answer is not None
    category = f"  {row.category}" if row.category else ""
    caption = f"{row.id}{category}\nDice {row.dice:.3f}   HD95 {row.hd95_px:.1f} px"
    window = Intensity(segmenter.card.window_hu)  # over all Hounsfield units organs look alike
    image = window.apply(case.image)
    return Tile(image, truth(case), answer.mask, answer.prompts, caption)
