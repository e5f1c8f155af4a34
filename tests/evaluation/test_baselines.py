"""Baselines against their areas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samling.evaluation.baselines import BASELINES, baseline, ellipse_in_box, fill_box
from samling.evaluation.protocols import union
from samling.prompts.prompt import Prompt


def box(*values: float) -> Prompt:
    return Prompt(box=np.array(values, dtype=float))


def plane(height: int, width: int) -> np.ndarray:
    return np.zeros((height, width), dtype=np.float32)


def test_whole_pixels() -> None:
    mask = fill_box(plane(10, 12), box(2, 3, 6, 5))
    assert mask.sum() == 8
    assert mask[3:5, 2:6].all()


def test_a_pixel_belongs_to_the_box_that_holds_its_centre() -> None:
    assert fill_box(plane(1, 4), box(0.6, 0, 2.4, 1)).tolist() == [[False, True, False, False]]


def test_ellipse_has_its_area_and_touches_the_sides() -> None:
    mask = ellipse_in_box(plane(300, 400), box(20, 30, 320, 230))
    assert mask.sum() == pytest.approx(np.pi / 4 * 300 * 200, rel=0.005)
    rows, columns = np.nonzero(mask)
    assert (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1) == (20, 320, 30, 230)


def test_one_object_per_prompt() -> None:
    filling = baseline("fill the box")
    image = filling.encode(plane(4, 4))
    objects = filling.segment_encoded(image, [box(0, 0, 2, 2), box(1, 1, 3, 3)])
    assert [item.mask.sum() for item in objects] == [4, 4]
    assert union(objects, (4, 4)).sum() == 7
    assert filling.segment_encoded(image, []) == []
    assert filling.foreground(image, []) is None


@pytest.mark.parametrize("name", BASELINES)
def test_kinds_of_prompt_are_kept_to(name: str) -> None:
    rule = baseline(name)
    assert rule.card.name == name
    image = np.random.default_rng(0).uniform(0, 255, (24, 30)).astype(np.float32)
    point = Prompt(points=np.array([[8.5, 9.5]]), point_labels=np.array([1]))
    if "points" in rule.card.prompts:
        assert rule.segment_encoded(image, [point])[0].mask[9, 8]
    else:
        with pytest.raises(ValueError, match="box in every prompt"):
            rule.segment_encoded(image, [point])


@given(*[st.floats(-5, 25)] * 2, *[st.floats(1, 20)] * 2)
def test_ellipse_lies_in_the_box(x: float, y: float, width: float, height: float) -> None:
    prompt = box(x, y, x + width, y + height)
    filled, ellipse = (rule(plane(20, 24), prompt) for rule in (fill_box, ellipse_in_box))
    assert not (ellipse & ~filled).any()
