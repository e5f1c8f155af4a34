"""Simulated prompts against NumPy and SciPy on random labels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from samling.prompts.prompt import Prompt
from samling.prompts.sampling import (
    components,
    correct,
    deepest_point,
    jitter,
    objects,
    prompt_of,
    simulate,
    tight_box,
)


def random_mask(height, width, share, seed):
    return np.random.default_rng(seed).random((height, width)) < share


SIDES = st.integers(1, 24)
MASKS = st.builds(random_mask, SIDES, SIDES, st.floats(0, 1), st.integers(0, 9999))
SOMETHING = MASKS.filter(lambda mask: mask.any())


def disc(shape, centre, radius):
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2


@given(SOMETHING)
def test_tight_box_is_where_the_mask_is(mask):
    rows, columns = np.where(mask)
    expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_array_equal(tight_box(mask), expected)


@given(MASKS)
def test_components_are_those_of_scipy_largest_first_without_specks(mask):
    numbers, count = ndimage.label(mask, structure=np.ones((3, 3)))
    areas = sorted(np.bincount(numbers.ravel(), minlength=count + 1)[1:], reverse=True)
    kept = areas[:1] + [area for area in areas[1:] if area >= 16]
    found = components(mask)
    assert [part.sum() for part in found] == kept
    for part in found:
        assert len(np.unique(numbers[part])) == 1
        assert (part <= mask).all()


def test_a_speck_counts_only_where_nothing_else_is():
    label = np.zeros((40, 40), bool)
    label[0, :15] = True
    assert len(components(label)) == 1
    label[10:20, 10:20] = True
    assert [part.sum() for part in components(label)] == [100]
    label[0, 15] = True  # 16 pixels are no speck any more
    assert [part.sum() for part in components(label)] == [100, 16]


@given(SOMETHING, st.sampled_from([5, 10, 20]), st.integers(0, 99))
def test_jitter_moves_each_side_within_bounds(mask, percent, seed):
    box = tight_box(mask)
    moved = jitter(box, percent / 100, mask.shape, np.random.default_rng(seed))
    extent = np.tile(box[2:] - box[:2], 2)
    assert (np.abs(moved - box) <= percent / 100 * extent + 1e-9).all()
    assert (moved >= 0).all()
    assert (moved <= np.tile(mask.shape[::-1], 2)).all()
    assert (moved[2:] - moved[:2] >= 1).all()


def test_jitter_uses_its_whole_range():
    rng = np.random.default_rng(0)
    box = np.array([400.0, 400, 500, 600])
    moves = np.array([jitter(box, 0.1, (1000, 1000), rng) - box for _ in range(2000)])
    np.testing.assert_allclose(moves.min(axis=0), [-10, -20, -10, -20], rtol=0.02)
    np.testing.assert_allclose(moves.max(axis=0), [10, 20, 10, 20], rtol=0.02)
    np.testing.assert_allclose(moves.std(axis=0), np.array([20, 40, 20, 40]) / 12**0.5, rtol=0.05)


@given(SOMETHING, st.sampled_from(["point1", "point3", "point5", "clicks3"]), st.integers(0, 99))
def test_points_are_centres_of_pixels_inside(mask, protocol, seed):
    prompt = prompt_of(mask, protocol, np.random.default_rng(seed))
    assert len(prompt.points) == (1 if protocol == "clicks3" else int(protocol[-1]))
    assert prompt.point_labels.tolist() == [1] * len(prompt.points)
    indices = (prompt.points - 0.5).astype(int)
    np.testing.assert_array_equal(indices + 0.5, prompt.points)
    assert mask[indices[:, 1], indices[:, 0]].all()


def test_the_first_point_lies_in_the_inner_half():
    mask = disc((101, 101), (50, 50), 40)
    rng = np.random.default_rng(0)
    first = np.array([prompt_of(mask, "point1", rng).points[0] for _ in range(300)])
    distance = np.hypot(*(first - 50.5).T)
    assert distance.max() <= 22  # half of 40 and a pixel or two of rounding
    assert distance.max() > 17


@given(SOMETHING)
def test_the_deepest_point_has_the_largest_distance_to_the_outside(mask):
    x, y = (deepest_point(mask) - 0.5).astype(int)
    exact = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    assert exact[y, x] >= 0.9 * exact.max()  # OpenCV's distance is approximate


def test_clicks_after_a_box_begin_with_the_tight_one():
    mask = disc((64, 64), (20, 20), 9)
    rng = np.random.default_rng(0)
    first, box = (prompt_of(mask, name, rng) for name in ("boxclicks3", "box"))
    assert first.box.tolist() == box.box.tolist() and len(first.points) == 0


@pytest.mark.parametrize("protocol", ["box", "jitter10", "point1", "point5", "clicks3", "auto"])
def test_the_same_generator_gives_the_same_prompts(protocol):
    label = disc((64, 64), (20, 20), 9) | disc((64, 64), (45, 45), 12)
    first, again, other = (
        [shape_of(prompt) for prompt in simulate(label, protocol, np.random.default_rng(seed))]
        for seed in (1, 1, 2)
    )
    assert len(first) == (1 if protocol == "auto" else 2)
    assert first == again
    assert (first == other) == (protocol in ("auto", "box"))


def shape_of(prompt):
    return None if prompt.box is None else prompt.box.tolist(), prompt.points.tolist()


def test_one_prompt_per_component_largest_first():
    small, large = disc((64, 64), (15, 15), 6), disc((64, 64), (45, 45), 12)
    boxes = [prompt.box for prompt in simulate(small | large, "box", np.random.default_rng(0))]
    np.testing.assert_array_equal(boxes, [tight_box(large), tight_box(small)])


def test_an_empty_label_has_only_the_automatic_prompt():
    empty, rng = np.zeros((20, 20), bool), np.random.default_rng(0)
    assert simulate(empty, "box", rng) == []
    [prompt] = simulate(empty, "auto", rng)
    assert prompt.automatic


@pytest.mark.parametrize("name", ["scribble", "point0", "point", "jitter-5", "box2", "point100"])
def test_unknown_protocols_are_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match="unknown prompt protocol.*clicks<n>"):
        prompt_of(np.ones((4, 4), bool), name, np.random.default_rng(0))


def test_correct_clicks_positive_where_most_was_missed():
    label = disc((64, 64), (20, 20), 10)
    predicted = disc((64, 64), (50, 50), 6)
    start = prompt_of(label, "point1", np.random.default_rng(0))
    better = correct(start, label, predicted, np.random.default_rng(1))
    assert better.point_labels.tolist() == [1, 1]
    x, y = better.points[-1].astype(int)
    assert label[y, x]


def test_correct_clicks_negative_where_most_was_too_much():
    label = disc((64, 64), (20, 20), 10)
    predicted = label | disc((64, 64), (45, 45), 15)
    mask = np.zeros((16, 16), np.float32)
    start = Prompt(box=np.array([0.0, 0, 64, 64]), mask=mask)
    better = correct(start, label, predicted, np.random.default_rng(1))
    assert better.point_labels.tolist() == [0]
    x, y = better.points[-1].astype(int)
    assert predicted[y, x]
    assert not label[y, x]
    assert better.box is start.box
    assert better.mask is mask


@given(SOMETHING, st.integers(0, 99))
def test_correct_clicks_in_the_largest_error_region(label, seed):
    rng = np.random.default_rng(seed)
    predicted = rng.random(label.shape) < 0.5
    better = correct(Prompt(), label, predicted, rng)
    numbers, count = ndimage.label(label != predicted, structure=np.ones((3, 3)))
    if count == 0:
        assert better.automatic
        return
    areas = np.bincount(numbers.ravel())
    x, y = better.points[0].astype(int)
    assert areas[numbers[y, x]] == areas[1:].max()
    assert better.point_labels[0] == label[y, x]


def test_correct_leaves_a_perfect_prediction_alone():
    label = disc((32, 32), (16, 16), 8)
    prompt = Prompt(box=tight_box(label))
    assert correct(prompt, label, label, np.random.default_rng(0)) is prompt


def test_organs_that_touch_are_two_objects():
    label = np.zeros((40, 40), np.uint8)
    label[5:20, 5:20], label[5:15, 20:35] = 1, 2
    assert len(components(label > 0)) == 1
    nerve, vessel = objects(label)
    np.testing.assert_array_equal(nerve, label == 1)
    np.testing.assert_array_equal(vessel, label == 2)
    boxes = [prompt.box for prompt in simulate(label, "box", np.random.default_rng(0))]
    np.testing.assert_array_equal(boxes, [(5, 5, 20, 20), (20, 5, 35, 15)])
