"""Plots: what is drawn, and that pictures come out."""

from dataclasses import replace
from pathlib import Path

import pytest

from samling.evaluation import plots
from samling.evaluation.curves import COLOURS
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


def test_a_method_has_one_colour_in_every_panel_and_picture(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.colors import to_hex

    figures = []
    monkeypatch.setattr(plots, "_saved", lambda figure, path: figures.append(figure) or path)
    order = ["first", "mine", "other"]
    panels = {"box": {"first": [0.1], "other": [0.2]}, "point1": {"other": [0.5], "late": [0.4]}}
    draw_boxes(panels, tmp_path / "b.png", order)
    draw_robustness(scores(), tmp_path / "r.png", order)
    draw_cost([Priced("other", Interval(0.5, 0.4, 0.7), 12.0, None)], tmp_path / "c.png",
              methods=order)  # fmt: skip
    boxes, lines, dots = figures
    found = [[to_hex(box.get_facecolor()).upper() for box in axes.patches] for axes in boxes.axes]
    assert found == [[COLOURS[0], COLOURS[2]], [COLOURS[2], COLOURS[3]]]
    assert [line.get_color() for line in lines.axes[0].lines] == [COLOURS[1], COLOURS[2]]
    assert to_hex(dots.axes[0].collections[-1].get_facecolor()[0]).upper() == COLOURS[2]


def test_what_is_stored_has_a_panel_of_its_own(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.collections import PathCollection

    figures = []
    monkeypatch.setattr(plots, "_saved", lambda figure, path: figures.append(figure) or path)
    dice = Interval(0.5, 0.4, 0.7)
    points = [Priced("small", dice, 12.0, 1, 0.3), Priced("drawn", dice, 9.0, None)]
    draw_cost(points, tmp_path / "c.png")
    draw_cost(points[1:], tmp_path / "c.png")
    times, files = figures[0].axes
    shown = [
        [dots.get_offsets()[0][0] for dots in axes.collections if isinstance(dots, PathCollection)]
        for axes in (times, files)
    ]
    assert set(shown[0]) == {12.0, 9.0} and set(shown[1]) == {0.3}
    assert "ms" in times.get_xlabel() and "MB" in files.get_xlabel()
    assert len(figures[1].axes) == 1


@pytest.mark.filterwarnings("error")
def test_names_of_methods_as_fast_as_each_other_are_inside(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    priced = [
        Priced(name, Interval(0.5, 0.4, 0.7), ms, 1) for name, ms in (("a", 89.1), ("b", 89.9))
    ]
    assert draw_cost(priced, tmp_path / "c.png") is not None


def test_styles_of_many_methods_differ() -> None:
    styles = [plots._style(number) for number in range(21)]
    assert len({(style["color"], style["marker"]) for style in styles}) == 21


def test_nothing_to_draw_is_no_picture(tmp_path: Path) -> None:
    one = [score for score in scores() if score.protocol == "box"]
    assert draw_robustness(one, tmp_path / "r.png") is None
    assert draw_boxes({"box": {}}, tmp_path / "b.png") is None
    assert draw_cost([], tmp_path / "c.png") is None
    assert list(tmp_path.iterdir()) == []
