"""The closer look: a square about the box, and the prompt seen from there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samling.prompts.prompt import Prompt
from samling.prompts.zoom import SMALLEST_SIDE, into_region, region_around

HEIGHT, WIDTH = 300, 400
SIDES = st.floats(0, 1)


@given(SIDES, SIDES, st.floats(0.001, 1), st.floats(0.001, 1), st.floats(1, 8))
def test_the_region_holds_the_box_and_lies_in_the_image(x, y, across, down, factor):
    x0, y0 = x * (WIDTH - 1), y * (HEIGHT - 1)
    box = np.array([x0, y0, min(WIDTH, x0 + across * WIDTH), min(HEIGHT, y0 + down * HEIGHT)])
    left, top, right, bottom = region_around(box, factor, HEIGHT, WIDTH)
    assert 0 <= left < right <= WIDTH
    assert 0 <= top < bottom <= HEIGHT
    assert left <= box[0]
    assert top <= box[1]
    assert right >= box[2]
    assert bottom >= box[3]
    longest = max(factor * max(box[2] - box[0], box[3] - box[1]), SMALLEST_SIDE)
    assert max(right - left, bottom - top) <= longest + 2


def test_away_from_the_edges_the_region_is_a_square_about_the_box():
    left, top, right, bottom = region_around(np.array([180.0, 140, 220, 160]), 2.5, HEIGHT, WIDTH)
    assert (left, top, right, bottom) == (150, 100, 250, 200)


def test_a_tiny_box_is_seen_with_its_surroundings():
    left, top, right, bottom = region_around(np.array([200.0, 150, 202, 151]), 1, HEIGHT, WIDTH)
    assert (right - left) >= SMALLEST_SIDE
    assert (bottom - top) >= SMALLEST_SIDE


@pytest.mark.parametrize("region", [(150, 100, 250, 200), (0, 0, 400, 300)])
def test_the_prompt_points_at_the_same_pixels(region):
    points = np.array([[160.5, 110.5], [249.5, 199.5], [20.0, 20.0]])
    prompt = Prompt(
        box=np.array([180.0, 140, 220, 160]), points=points, point_labels=np.array([1, 0, 1])
    )
    moved = into_region(prompt, region)
    corner = np.array(region[:2])
    np.testing.assert_array_equal(moved.box, prompt.box - np.tile(corner, 2))
    kept = 2 if region[0] else 3  # the last one lies outside the first region
    np.testing.assert_array_equal(moved.points, points[:kept] - corner)
    np.testing.assert_array_equal(moved.point_labels, prompt.point_labels[:kept])
    moved.check(region[3] - region[1], region[2] - region[0])


def test_a_box_beyond_the_region_is_cut():
    moved = into_region(Prompt(box=np.array([-10.0, 50, 60, 500])), (0, 20, 100, 120))
    np.testing.assert_array_equal(moved.box, [0, 30, 60, 100])
