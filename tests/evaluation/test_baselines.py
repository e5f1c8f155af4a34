"""Baselines against their areas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samling.evaluation.baselines import ellipse_in_box, fill_box
from samling.prompts.prompt import Prompt


def box(*values: float) -> Prompt:
    return Prompt(box=np.array(values, dtype=float))


def test_whole_pixels() -> None:
    mask = fill_box([box(2, 3, 6, 5)], (10, 12))
    assert mask.sum() == 8
    assert mask[3:5, 2:6].all()


def test_a_pixel_belongs_to_the_box_that_holds_its_centre() -> None:
    assert fill_box([box(0.6, 0, 2.4, 1)], (1, 4)).tolist() == [[False, True, False, False]]


def test_ellipse_has_its_area_and_touches_the_sides() -> None:
    mask = ellipse_in_box([box(20, 30, 320, 230)], (300, 400))
    assert mask.sum() == pytest.approx(np.pi / 4 * 300 * 200, rel=0.005)
    rows, columns = np.nonzero(mask)
    assert (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1) == (20, 320, 30, 230)


def test_several_boxes_are_united_and_none_is_empty() -> None:
    two = fill_box([box(0, 0, 2, 2), box(1, 1, 3, 3)], (4, 4))
    assert two.sum() == 7
    assert not fill_box([], (4, 4)).any()


def test_box_prompts_only() -> None:
    with pytest.raises(ValueError, match="box in every prompt"):
        fill_box([Prompt()], (4, 4))


@given(*[st.floats(-5, 25)] * 2, *[st.floats(1, 20)] * 2)
def test_ellipse_lies_in_the_box(x: float, y: float, width: float, height: float) -> None:
    prompt = box(x, y, x + width, y + height)
    filled, ellipse = fill_box([prompt], (20, 24)), ellipse_in_box([prompt], (20, 24))
    assert not (ellipse & ~filled).any()
