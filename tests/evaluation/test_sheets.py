"""Which images a sheet shows."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2

from samling.data.splits import ValSplit
from samling.evaluation import sheets
from samling.evaluation.overlays import Tile, write_sheet
from samling.evaluation.run import Row, evaluate_segmenter
from samling.evaluation.sheets import choose, draw_damaged, draw_sheets


def rows(values: list[float | None]) -> list[Row]:
    return [
        Row(f"c{i}", "g", "", "m", "box", v is not None, 1, dice=v) for i, v in enumerate(values)
    ]


def test_best_median_and_worst() -> None:
    chosen = choose(rows([0.1 * i for i in range(9)] + [None]), 3)
    names = {which: [row.id for row in found] for which, found in chosen.items()}
    assert names == {"best": ["c8", "c7", "c6"], "median": ["c5", "c4", "c3"],
                     "worst": ["c0", "c1", "c2"]}  # fmt: skip


def test_small_sets_and_ties() -> None:
    assert [row.id for row in choose(rows([0.5, 0.5]), 6)["all"]] == ["c0", "c1"]
    assert choose(rows([None])) == {"all": []}
    for count in range(7, 20):
        sheets = choose(rows([i / 20 for i in range(count)]))
        shown = [row.id for sheet in sheets.values() for row in sheet]
        assert list(sheets) == ["best", "median", "worst"] and len(shown) == len(set(shown)) >= 6


def test_pictures_are_written(fakes: SimpleNamespace, tmp_path: Path) -> None:
    case = fakes.disc_case("one", [(30, 30, 10)], category="cyst")
    store = fakes.Store({"one": case})
    segmenter = fakes.Segmenter()
    measured = evaluate_segmenter(segmenter, store, ValSplit(("one",)), ["point1"])
    written = draw_sheets(segmenter, store, measured, tmp_path, seed=0)
    assert [path.name for path in written.values()] == ["sheet_all.png"]
    assert cv2.imread(str(written["all"])) is not None
    assert draw_sheets(segmenter, store, rows([None]), tmp_path, seed=0) == {}


def test_damages_are_shown_row_by_row_on_a_typical_image_and_on_the_one_hit_hardest(
    fakes, tmp_path: Path, monkeypatch
) -> None:
    drawn: list[tuple[list[str], int]] = []

    def note(path: Path, tiles: list[Tile], columns: int, *, side: int) -> Path:
        drawn.append(([tile.caption.split()[0] for tile in tiles], columns))
        return write_sheet(path, tiles, columns, side=side)

    monkeypatch.setattr(sheets, "write_sheet", note)
    cases = {name: fakes.disc_case(name, [(30, 30, 10)]) for name in ("a", "b", "c")}
    store, segmenter = fakes.Store(cases), fakes.Segmenter()
    asked = ["point1", "point1~gain1", "point1~gain3", "point1~shadow3", "box", "box~jpeg1"]
    measured = evaluate_segmenter(segmenter, store, ValSplit(tuple(cases)), asked)
    measured = [
        replace(row, dice=0.1) if (row.id, row.protocol) == ("c", "point1~gain3") else row
        for row in measured
    ]
    found = draw_damaged(segmenter, store, measured, tmp_path, seed=0)
    assert list(found) == ["typical", "hardest"]
    assert all(cv2.imread(str(path)) is not None for path in found.values())
    for captions, columns in drawn:
        whole = captions[0]
        # every row begins with the picture as it was, which also fills a place nobody asked for
        assert columns == 3 and captions == [whole, "gain1", "gain3", whole, whole, "shadow3"]
    assert drawn[0][0][0] in cases and drawn[1][0][0] == "c"
    plain = [row for row in measured if "~" not in row.protocol]
    assert draw_damaged(segmenter, store, plain, tmp_path / "none", seed=0) == {}
    assert not (tmp_path / "none").exists()
