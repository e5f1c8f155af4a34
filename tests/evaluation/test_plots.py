"""Plots: what is drawn, and that pictures come out."""

from dataclasses import replace
from pathlib import Path

import pytest

from samling.evaluation.plots import Priced, draw_boxes, draw_cost, draw_robustness, jitter_curves
from samling.evaluation.run import Row
from samling.evaluation.statistics import Interval
from samling.evaluation.tables import Score, summarise


def scores() -> list[Score]:
    values = {"jitter20": 0.6, "box": 0.9, "jitter5": 0.85, "point1": 0.5}
    rows = [
        replace(Row("a", "a", "", method, protocol, True, 1), dice=dice, iou=dice / 2)
        for method in ("mine", "other")
        for protocol, dice in values.items()
    ]
    return summarise([*rows, replace(rows[0], method="single", protocol="box")])


def test_curves_rise_in_jitter_and_need_two_levels() -> None:
    curves = jitter_curves(scores())
    assert list(curves) == ["mine", "other"]
    assert [(level, dice.mean) for level, dice in curves["mine"]] == [
        (0, 0.9), (5, 0.85), (20, 0.6),
    ]  # fmt: skip


def test_pictures_are_written_whole(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    half = Interval(0.5, 0.4, 0.7)
    made = [
        draw_robustness(scores(), tmp_path / "r.png"),
        draw_boxes({"box": {"a": [0.1, 0.9], "b": [0.5]}, "auto": {}}, tmp_path / "b.png"),
        draw_boxes(
            {"box": {"a": [0.1]}, "jitter10": {"a": [0.2], "b": [0.3]}}, tmp_path / "two.png"
        ),
        draw_cost([Priced("a", half, 12.0, 4_000_000), Priced("b", half, 900.0, None)],
                  tmp_path / "c.png"),
    ]  # fmt: skip
    for path in made:
        assert path is not None and path.read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 4


def test_nothing_to_draw_is_no_picture(tmp_path: Path) -> None:
    one = [score for score in scores() if score.protocol == "box"]
    assert draw_robustness(one, tmp_path / "r.png") is None
    assert draw_boxes({"box": {}}, tmp_path / "b.png") is None
    assert draw_cost([], tmp_path / "c.png") is None
    assert list(tmp_path.iterdir()) == []
