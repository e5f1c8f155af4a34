import numpy as np
import pytest

from samling.errors import InputError


@pytest.fixture
def colour():
    return np.random.default_rng(1).integers(0, 256, (90, 140, 3), dtype=np.uint8)


def test_the_familiar_calls_give_the_familiar_shapes(painter, colour):
    predictor = painter.predictor()
    predictor.set_image(colour)
    masks, scores, low = predictor.predict(
        point_coords=np.array([[30, 40]]), point_labels=np.array([1]), multimask_output=True
    )
    assert masks.shape == (1, 90, 140)
    assert masks.dtype == bool
    assert scores.shape == (1,)
    assert low.shape == (1, 64, 64)
    assert masks[0, 40, 30]


def test_one_encoding_serves_many_prompts(painter, colour):
    predictor = painter.predictor()
    predictor.set_image(colour)
    for x in range(10, 60, 10):
        predictor.predict(box=np.array([x, 10, x + 20, 40]))
    assert painter.backend.encoded == 1


def test_box_and_points_of_one_call_are_one_object(painter, colour):
    predictor = painter.predictor()
    predictor.set_image(colour)
    masks, _, _ = predictor.predict(point_coords=[[40, 40]], point_labels=[0], box=[20, 20, 80, 80])
    assert masks[0, 70, 70]
    assert not masks[0, 40, 40]


def test_the_result_agrees_with_segmenter_predict(painter, colour):
    predictor = painter.predictor()
    predictor.set_image(colour)
    masks, scores, _ = predictor.predict(box=[20, 20, 80, 80])
    expected, expected_scores = painter.predict(colour, boxes=[[20, 20, 80, 80]])
    assert np.array_equal(masks, expected)
    assert np.array_equal(scores, expected_scores)


def test_bgr_is_rgb_with_the_channels_reversed(painter, colour):
    predictor = painter.predictor()
    results = []
    for array, order in ((colour, "RGB"), (colour[..., ::-1], "BGR")):
        predictor.set_image(array, image_format=order)
        results.append(predictor.predict(return_logits=True)[0])
    assert np.array_equal(*results)


def test_low_resolution_logits_can_be_given_back(painter, colour):
    predictor = painter.predictor()
    predictor.set_image(colour)
    _, _, low = predictor.predict(box=[20, 20, 80, 80])
    _, _, again = predictor.predict(box=[20, 20, 80, 80], mask_input=low)
    assert np.array_equal(again, 2 * low)  # this backend adds the earlier logits


def test_without_prompts_everything_is_one_mask(painter):
    predictor = painter.predictor()
    image = np.zeros((64, 64), dtype=np.uint8)
    image[5:20, 5:20] = image[40:60, 40:60] = 255
    predictor.set_image(image)
    masks, _, _ = predictor.predict()
    assert np.array_equal(masks[0], image > 0)
    predictor.set_image(np.zeros((64, 64), dtype=np.uint8))
    assert not predictor.predict()[0].any()


def test_a_refused_image_does_not_leave_the_previous_one(painter, colour):
    predictor = painter.predictor()
    with pytest.raises(InputError, match="set_image"):
        predictor.predict(box=[1, 1, 9, 9])
    predictor.set_image(colour)
    with pytest.raises(InputError):
        predictor.set_image(np.zeros((2, 2, 2, 2)))
    assert not predictor.is_image_set
    with pytest.raises(InputError, match="RGB or BGR"):
        predictor.set_image(colour, image_format="HSV")
