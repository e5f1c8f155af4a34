"""Which images a sheet shows."""

from pathlib import Path
from types import SimpleNamespace

import cv2

from samling.data.splits import ValSplit
from samling.evaluation.run import Row, evaluate_segmenter
from samling.evaluation.sheets import choose, draw_sheets


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
    assert [row.id for row in choose(rows([0.5, 0.5]), 6)["best"]] == ["c0", "c1"]
    assert choose(rows([None])) == {"best": [], "median": [], "worst": []}


def test_pictures_are_written(fakes: SimpleNamespace, tmp_path: Path) -> None:
    case = fakes.disc_case("one", [(30, 30, 10)], category="cyst")
    store = fakes.Store({"one": case})
    segmenter = fakes.Segmenter()
    measured = evaluate_segmenter(segmenter, store, ValSplit(("one",)), ["point1"])
    written = draw_sheets(segmenter, store, measured, tmp_path, seed=0)
    assert sorted(path.name for path in written.values()) == [
        "sheet_best.png", "sheet_median.png", "sheet_worst.png"]  # fmt: skip
    assert cv2.imread(str(written["best"])) is not None
    assert draw_sheets(segmenter, store, rows([None]), tmp_path, seed=0) == {}
