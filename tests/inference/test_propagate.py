"""Slices one after the other: objects are followed until they end."""

import numpy as np
import pytest

from samling.inference.propagate import propagate
from samling.inference.segmenter import Segmenter
from samling.prompts.prompt import Prompt


@pytest.fixture
def bright(bright_backend, make_card):
    return Segmenter(bright_backend, make_card(prompts=("box", "automatic"), classes=("liver",)))


@pytest.fixture
def cone():
    """A disc that wanders and shrinks over slices 3 to 16 of 20, and a bright spot far from it."""
    volume = np.zeros((20, 64, 64), np.int16)
    y, x = np.mgrid[:64, :64]
    for k in range(3, 17):
        volume[k][(x - 20 - k) ** 2 + (y - 30) ** 2 <= (16 - abs(k - 10)) ** 2] = 100
    marks = volume > 0
    volume[:, 60:62, 2:4] = 100
    return volume, marks


def test_an_object_is_followed_from_one_box_to_both_ends(bright, cone):
    volume, marks = cone
    prompt = Prompt(box=np.array([13.0, 13, 47, 47]))
    found = np.zeros(volume.shape, bool)
    order = []
    for index, (mask,) in propagate(bright, volume, 10, [prompt]):
        found[index] = mask
        order.append(index)
    assert order == [10, *range(11, 17), *range(9, 2, -1)]
    # the slices beside it were only ever seen inside a box carried from the slice before
    assert 2 * (found & marks).sum() / (found.sum() + marks.sum()) > 0.98
    assert not found[:, 60:62, 2:4].any()


def test_one_encoding_per_slice_however_many_objects(bright, cone, painter):
    volume, _ = cone
    prompts = [Prompt(box=np.array([13.0, 13, 47, 47])), Prompt(box=np.array([1.0, 59, 5, 63]))]
    answers = dict(propagate(bright, volume, 10, prompts))
    assert sorted(answers) == list(range(20)) and painter.backend.encoded == 20
    assert answers[0][0] is None and answers[0][1].sum() == 4  # the cone has ended, the spot not


def test_an_object_ends_where_other_tissue_begins(make_card, painter):
    """The painter fills any box: only the values tell that the object is gone."""
    volume = np.zeros((9, 64, 64), np.int16)
    volume[2:6, 20:40, 20:40] = np.random.default_rng(0).normal(60, 5, (4, 20, 20))
    volume[6:, 20:40, 20:40] = -800
    segmenter = Segmenter(painter.backend, make_card(prompts=("box",)))
    boxed = Prompt(box=np.array([20.0, 20, 40, 40]))
    assert sorted(dict(propagate(segmenter, volume, 3, [boxed]))) == [2, 3, 4, 5]


def test_nothing_found_is_not_carried_on(bright):
    answers = dict(
        propagate(bright, np.zeros((5, 64, 64)), 2, [Prompt(box=np.array([1.0, 1, 9, 9]))])
    )
    assert list(answers) == [2] and not answers[2][0].any()
