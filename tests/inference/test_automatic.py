import numpy as np
import pytest
from scipy import ndimage

from samling.inference.segmenter import Segmenter
from samling.prompts.prompt import Prompt


@pytest.fixture
def two_lesions():
    image = np.zeros((128, 128), dtype=np.uint8)
    image[20:60, 16:56] = 255
    image[80:100, 90:120] = 250
    image[4, 4] = 255  # a speck
    return image


def test_every_region_is_an_object_largest_first(painter, two_lesions):
    found = painter.segment(two_lesions, [Prompt()])
    assert [one.class_name for one in found] == ["object", "object"]
    assert found[0].mask.sum() == pytest.approx(1600, rel=0.06)
    assert found[1].mask.sum() == pytest.approx(600, rel=0.1)
    for one in found:
        ys, xs = np.nonzero(one.mask)
        assert one.box == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        assert ndimage.label(one.mask, np.ones((3, 3)))[1] == 1


def test_the_score_is_mean_probability_times_presence(painter, two_lesions):
    encoded = painter.encode(two_lesions)
    logits, _ = painter.decode(encoded, [Prompt()])
    presence = 1 / (1 + np.exp(-3.0))
    for one in painter.segment(two_lesions, [Prompt()]):
        probability = (1 / (1 + np.exp(-logits[0].astype(float))))[one.mask].mean()
        assert one.score == pytest.approx(probability * presence, rel=1e-5)
        assert one.presence == pytest.approx(presence)


def test_small_regions_are_dropped_by_their_share_of_the_image(painter, make_card, two_lesions):
    strict = Segmenter(painter.backend, make_card(minimum_area=0.05))
    assert len(strict.segment(two_lesions, [Prompt()])) == 1
    lenient = Segmenter(painter.backend, make_card(minimum_area=0.0))
    assert len(lenient.segment(two_lesions, [Prompt()])) >= 2


def test_nothing_here_is_an_answer_and_costs_no_decoding(painter):
    masks, scores = painter.predict(np.zeros((50, 70), dtype=np.uint8))
    assert masks.shape == (0, 50, 70)
    assert scores.shape == (0,)
    assert painter.backend.decoded == []


def test_the_presence_threshold_is_the_cards(painter, make_card, two_lesions):
    sceptical = Segmenter(painter.backend, make_card(presence_threshold=0.99))
    assert sceptical.segment(two_lesions, [Prompt()]) == []


def test_prompts_and_automatic_may_be_mixed(painter, two_lesions):
    box = Prompt(box=np.array([0.0, 0, 10, 10]))
    found = painter.segment(two_lesions, [box, Prompt()])
    assert len(found) == 3
    assert found[0].score == pytest.approx(0.52)  # the predicted IoU
