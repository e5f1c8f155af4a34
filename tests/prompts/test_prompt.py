"""Prompt: its tokens by hand, and what check() refuses."""

import numpy as np
import pytest

from samling.errors import InputError
from samling.prompts.frame import Frame
from samling.prompts.prompt import AUTOMATIC_TOKENS, Prompt, Token

FRAME = Frame(128, 128, 256)  # two model pixels per original pixel


def box(*sides):
    return Prompt(box=np.array(sides, dtype=np.float64))


def points(*xy, labels=None):
    kinds = [1] * len(xy) if labels is None else labels
    return Prompt(points=np.array(xy, dtype=np.float64), point_labels=np.array(kinds))


def test_a_box_becomes_its_first_and_its_last_model_pixel():
    coords, labels = box(10, 20, 30, 50).tokens(FRAME)
    # Original pixels 10..29 are model pixels 20..59, rows 20..49 are 40..99
    np.testing.assert_array_equal(coords, [[20 - 0.5 + 0.5, 40], [59, 99]])
    np.testing.assert_array_equal(labels, [Token.TOP_LEFT, Token.BOTTOM_RIGHT])
    assert coords.dtype == np.float32
    assert labels.dtype == np.int64


def test_a_box_is_clipped_to_the_image():
    seen, _ = box(-20, -5, 500, 70).tokens(FRAME)
    np.testing.assert_array_equal(seen, box(0, 0, 128, 70).tokens(FRAME)[0])


def test_the_last_pixel_of_a_tiny_box_is_not_before_its_first():
    coords, _ = box(10, 20, 10.1, 20.2).tokens(Frame(1280, 1280, 256))
    np.testing.assert_allclose(coords, [[2, 4], [2, 4]], atol=1e-5)


def test_points_become_pixel_indices_with_one_padding_token():
    coords, labels = points((10.5, 20.5), (3, 4), labels=[1, 0]).tokens(FRAME)
    np.testing.assert_array_equal(coords, [[20.5, 40.5], [5.5, 7.5], [0, 0]])
    np.testing.assert_array_equal(labels, [Token.POSITIVE, Token.NEGATIVE, Token.PADDING])


def test_the_centre_of_a_pixel_is_its_index_where_nothing_is_resized():
    coords, _ = points((10.5, 20.5)).tokens(Frame(256, 256, 256))
    np.testing.assert_array_equal(coords[0], [10, 20])


def test_points_with_a_box_need_no_padding():
    prompt = Prompt(
        box=np.array([0.0, 0, 8, 8]), points=np.array([[1.0, 1.0]]), point_labels=np.array([1])
    )
    _, labels = prompt.tokens(FRAME)
    np.testing.assert_array_equal(labels, [Token.POSITIVE, Token.TOP_LEFT, Token.BOTTOM_RIGHT])


def test_nothing_is_the_automatic_prompt():
    coords, labels = Prompt().tokens(FRAME)
    assert Prompt().automatic
    np.testing.assert_array_equal(labels, Token.AUTOMATIC + np.arange(AUTOMATIC_TOKENS))
    assert coords.shape == (AUTOMATIC_TOKENS, 2)


def test_a_mask_alone_is_not_automatic():
    prompt = Prompt(mask=np.zeros((64, 64), np.float32))
    assert not prompt.automatic
    np.testing.assert_array_equal(prompt.tokens(FRAME)[1], [Token.PADDING])


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        (box(1, 2, 3), "not four numbers"),
        (box(1, 2, np.nan, 4), "not four numbers"),
        (box(1, 2, np.inf, 4), "not four numbers"),
        (box(5, 2, 5, 4), "no area"),
        (box(6, 2, 5, 4), "no area"),
        (box(40, 2, 50, 4), "outside the image"),
        (box(-9, 2, 0, 4), "outside the image"),
        (box(1, 30, 2, 35), "outside the image"),
        (points((1, np.nan)), "finite"),
        (points((1, 2), labels=[1, 1]), "one label each"),
        (Prompt(points=np.zeros((1, 3)), point_labels=np.ones(1, np.int64)), "one label each"),
        (points((1, 2), labels=[2]), "must be 1"),
        (points((1, 2), (3, 4), labels=[0, 0]), "only say where the object is not"),
        (points((40.1, 2)), "outside the image"),
        (points((1, -0.1)), "outside the image"),
    ],
)
def test_check_refuses_and_names_the_prompt(prompt, problem):
    with pytest.raises(InputError, match=problem) as caught:
        prompt.check(30, 40, "row 7")
    assert str(caught.value).startswith("row 7: ")


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(),
        box(0, 0, 40, 30),
        box(-3, -3, 99, 99),
        points((0, 0), (40, 30), labels=[0, 1]),
        Prompt(np.array([0.0, 0, 9, 9]), np.array([[3.0, 4]]), np.array([0])),
        Prompt(points=np.array([[3.0, 4]]), point_labels=[1]),
    ],
)
def test_check_lets_usable_prompts_pass(prompt):
    assert prompt.check(30, 40) is prompt


@pytest.mark.parametrize(
    ("prompt", "counts"),
    [
        (box(10, 20, 30, 50), {"points": 0, "always": 1, "six": 4}),
        (points((3, 4)), {"points": 1, "always": 1, "six": 5}),
        (points(*[(3, 4)] * 8), {"points": 1, "always": 1, "six": 0}),
        (Prompt(), {"points": 0, "always": 0, "six": 0}),
    ],
)
def test_padding_tokens_follow_the_rule_of_the_family(prompt, counts):
    for rule, count in counts.items():
        coords, labels = prompt.tokens(FRAME, rule)
        assert (labels == Token.PADDING).sum() == count
        assert len(coords) == len(labels)
        bare = [label for label in labels if label != Token.PADDING]
        assert list(labels[: len(bare)]) == bare
