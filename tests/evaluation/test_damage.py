"""Damage: each does what it says, leaves the scale alone, and is asked for by a protocol's name."""

import re

import numpy as np
import pytest

from samling.errors import InputError
from samling.evaluation import plots
from samling.evaluation.damage import DAMAGES, damaged, divided
from samling.evaluation.drop import changes, drop_table
from samling.evaluation.plots import draw_damage
from samling.evaluation.protocols import DAMAGED, expand, kinds_of
from samling.evaluation.run import Row
from samling.evaluation.tables import summarise, undamaged

IMAGE = np.random.default_rng(0).uniform(20, 200, (90, 120)).astype(np.float32)


def changed(name: str, image: np.ndarray = IMAGE) -> np.ndarray:
    return damaged(image, name, np.random.default_rng(0))


@pytest.mark.parametrize("name", DAMAGES)
def test_a_higher_level_changes_more_and_the_range_of_values_stays(name) -> None:
    before = IMAGE.copy()
    distances = [float(np.abs(changed(f"{name}{level}") - IMAGE).mean()) for level in (1, 2, 3)]
    assert 0 < distances[0] < distances[1] < distances[2]
    assert changed(f"{name}3").min() >= 20 - 1e-3 and changed(f"{name}3").max() <= 200 + 1e-3
    assert np.array_equal(IMAGE, before) and np.array_equal(
        changed(f"{name}2"), changed(f"{name}2")
    )


def test_no_damage_is_the_image() -> None:
    assert np.array_equal(changed(""), IMAGE)


def test_attenuation_and_gain_by_hand() -> None:
    flat = np.full((11, 4), 0.5, np.float32)
    flat[0, 0], flat[0, 1] = 0.0, 1.0
    assert changed("attenuation2", flat)[10, 0] == pytest.approx(0.5 * np.exp(-1.4), abs=1e-5)
    assert changed("gain1", flat)[5, 0] == pytest.approx(0.7) and changed("gain3", flat)[5, 0] == 1


def test_a_shadow_darkens_a_strip_down_to_the_bottom() -> None:
    share = (changed("shadow2") < IMAGE - 1e-3).mean(axis=0)
    assert 0.1 < (share > 0.5).mean() < 0.3


def test_all_levels_harm_the_same_places() -> None:
    """A shadow widens and marks are added, as evaluation draws them: one draw for a picture."""
    harmed = [np.abs(changed(f"marks{level}") - IMAGE) > 1e-3 for level in (1, 2)]
    assert (harmed[0] <= harmed[1]).mean() > 0.999  # all but where an image is white
    shadows = [changed(f"shadow{level}") < IMAGE - 1e-3 for level in (1, 2, 3)]
    assert (shadows[0] <= shadows[1]).all() and (shadows[1] <= shadows[2]).all()


def test_protocols_with_damage() -> None:
    assert kinds_of("point1~jpeg3") == ("points",) and kinds_of("auto~gain1") == ("automatic",)
    assert expand(["jitter10~gain1"]) == ["jitter10", "jitter10~gain1"], "with level 0"
    assert len(expand(["damaged"])) == len(DAMAGED) == 1 + 3 * len(DAMAGES)
    for wrong in ("box~fog1", "box~gain4", "box~gain", "box~"):
        with pytest.raises(InputError, match="is no damage"):
            divided(wrong)


def row(id: str, protocol: str, dice: float, method: str = "m") -> Row:
    return Row(id, f"g{id}", "", method, protocol, True, 1, dice=dice)


def test_the_table_and_the_curve_are_of_changes_from_the_picture_as_it_was(tmp_path) -> None:
    clean = [row("1", "box", 0.9), row("1", "auto", 0.5)]
    rows = [*clean, row("1", "box~gain1", 0.8), row("1", "box~gain3", 0.4)]
    table = drop_table(rows)
    assert table is not None
    assert table.rows == (("m", "tight box", "gain", "0.900", "-10.0", "–", "-50.0"),)
    levels = changes(rows)["m", "box", "gain"]
    assert {n: round(c.mean, 9) for n, c in levels.items()} == {0: 0, 1: -0.1, 3: -0.5}
    assert [s.protocol for s in undamaged(summarise(rows))] == ["box", "auto"]
    assert draw_damage(rows, tmp_path / "d.png") is not None and (tmp_path / "d.png").is_file()
    assert drop_table(clean) is None and draw_damage(clean, tmp_path / "e.png") is None


def test_methods_that_nothing_changes_are_a_sentence_not_rows(tmp_path) -> None:
    blind = [row("1", protocol, 0.8, "ellipse") for protocol in ("box", "box~gain1", "box~jpeg3")]
    seeing = [row("1", "box", 0.9), row("1", "box~gain1", 0.9), row("1", "box~jpeg3", 0.7)]
    table = drop_table([*seeing, *blind])
    assert table is not None and [line[0] for line in table.rows] == ["m", "m"]
    assert table.caption.endswith("Nothing changes ellipse.")
    alone = drop_table(blind)
    assert alone is not None and len(alone.rows) == 2, "asked for and nothing else to show: said"
    assert draw_damage(blind, tmp_path / "d.png") is not None


def test_the_interval_is_that_of_the_change_not_of_the_images() -> None:
    """Images from 0 to 0.9 that all lose about 0.05: as means nothing, as pairs beyond doubt."""
    rows = [
        row(str(n), protocol, n / 10 - lost)
        for n in range(10)
        for protocol, lost in (("box", 0), ("box~gain1", 0.04 + 0.02 * (n % 2)))
    ]
    rows.append(row("alone", "box~gain1", 0.0))  # without its whole picture: in no pair
    table = drop_table(rows)
    assert table is not None and "95% interval" in table.caption
    mean, low, high = (
        float(v) for v in re.fullmatch(r"(.+) \((.+) to (.+)\)", table.rows[0][4]).groups()
    )
    assert mean == -5.0 and -6 <= low < mean < high <= -4


@pytest.mark.parametrize("words", ["ellipse in the box", "light base, without its adapter " * 3])
def test_the_legend_is_inside_the_picture(tmp_path, monkeypatch, words) -> None:
    pytest.importorskip("matplotlib")
    drawn = []
    monkeypatch.setattr(plots, "_saved", lambda figure, path: drawn.append(figure) or path)
    rows = [
        row("1", protocol, dice, f"{words} {n}")
        for protocol, dice in (("box", 0.5), ("box~gain1", 0.4))
        for n in range(5)
    ]
    draw_damage(rows, tmp_path / "d.png")
    (figure,) = drawn
    figure.canvas.draw()
    (legend,) = figure.legends
    box, whole = legend.get_window_extent(), figure.bbox
    assert box.x0 >= 0 and box.x1 <= whole.x1 + 1 and box.y1 <= whole.y1 + 1
    panel = figure.axes[0].get_window_extent()
    assert panel.height > 100 and panel.y1 <= box.y0


@pytest.mark.parametrize("name", [f"{kind}2" for kind in DAMAGES])
def test_neighbouring_slices_are_damaged_alike(name) -> None:
    plane = np.random.default_rng(0).integers(0, 255, (64, 48)).astype(np.float32)
    slab = damaged(np.stack([plane] * 3), name, np.random.default_rng(1))
    assert slab.shape == (3, 64, 48)
    np.testing.assert_array_equal(slab[0], slab[1])
    np.testing.assert_array_equal(slab[1], slab[2])
