import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import ndimage

from samling.errors import InputError
from samling.inference.arrays import grey
from samling.inference.card import Card
from samling.inference.regions import box_around, regions_in_reach
from samling.inference.segmenter import Segmenter
from samling.prompts.prompt import Prompt


def image(height=100, width=160):
    return np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("size", [(100, 160), (300, 120), (64, 64), (700, 900)])
def test_a_box_comes_back_where_it_was_given(painter, size):
    height, width = size
    box = np.array([width * 0.2, height * 0.3, width * 0.7, height * 0.8]).round()
    masks, scores = painter.predict(image(*size), boxes=box)
    x0, y0, x1, y1 = box.astype(int)
    expected = np.zeros(size, dtype=bool)
    expected[y0:y1, x0:x1] = True
    assert masks.shape == (1, *size)
    assert masks.dtype == bool
    assert iou(masks[0], expected) > 0.93  # a model pixel is up to 14 image pixels wide
    assert scores.dtype == np.float32


def test_every_box_is_an_object_and_all_points_are_one(painter):
    masks, _ = painter.predict(
        image(), boxes=[[5, 5, 30, 30], [90, 50, 140, 90]], points=[[80, 20]]
    )
    assert len(masks) == 3
    assert masks[0, 17, 17]
    assert masks[1, 70, 115]
    assert masks[2, 20, 80]
    assert not (masks[0] & masks[1]).any()


def test_a_negative_point_cuts_its_disc_out(painter):
    masks, _ = painter.predict(image(), points=[[40, 40], [52, 40]], point_labels=[1, 0])
    assert masks[0, 40, 34]
    assert not masks[0, 40, 52]


def test_a_mask_does_not_depend_on_what_else_was_asked(painter):
    box = Prompt(box=np.array([5.0, 5, 30, 30]))
    points = Prompt(points=np.array([[80.0, 20.0]]), point_labels=np.array([1]))
    both = Prompt(box.box, points.points, points.point_labels)
    asked = [box, both, points, box, both]
    encoded = painter.encode(image())
    logits, quality = painter.decode(encoded, asked)
    for prompt, one, rating in zip(asked, logits, quality, strict=True):
        alone, alone_quality = painter.decode(encoded, [prompt])
        assert np.array_equal(alone[0], one)
        assert alone_quality[0] == rating


def test_foreground_is_the_largest_probability_and_agrees_with_the_masks(painter):
    first, second = (
        Prompt(box=np.array(b, dtype=float)) for b in ([5, 5, 60, 60], [90, 50, 150, 90])
    )
    encoded = painter.encode(image())
    both = painter.foreground(encoded, [first, second])
    assert both.shape == (100, 160) and both.min() >= 0 and both.max() <= 1
    masks = [found.mask for found in painter.segment_encoded(encoded, [first, second])]
    np.testing.assert_array_equal(both > 0.5, masks[0] | masks[1])
    alone = [painter.foreground(encoded, [prompt]) for prompt in (first, second)]
    np.testing.assert_array_equal(both, np.maximum(*alone))
    assert painter.foreground(encoded, []).max() < 1e-6


def test_prompts_with_equal_numbers_of_tokens_share_a_call(painter):
    painter.predict(image(), boxes=[[1, 1, 9, 9]] * 20)
    assert painter.backend.decoded == [(20, 2)]
    assert painter.backend.encoded == 1


def test_a_kind_the_model_lacks_is_named_with_the_way_out(painter, make_card):
    only_boxes = Segmenter(painter.backend, make_card(name="litemedsam", prompts=("box",)))
    with pytest.raises(InputError, match=r"litemedsam: has no automatic mode. Remedy: give a box"):
        only_boxes.predict(image())
    with pytest.raises(InputError, match="has no point prompts"):
        only_boxes.predict(image(), points=[[3, 3]])
    assert painter.backend.encoded == 0  # refused before the expensive part


@pytest.mark.parametrize(
    "prompts",
    [
        {"boxes": [[5, 5, 5, 9]]},
        {"boxes": [[9, 9, 5, 5]]},
        {"boxes": [[1, 2, 3]]},
        {"boxes": [[np.nan, 2, 3, 4]]},
        {"boxes": [[500, 500, 600, 600]]},
        {"boxes": "everything"},
        {"boxes": [[1, 1, 4, 4]] * 1001},
        {"points": [[5, 5, 1]]},
        {"points": [[np.inf, 5]]},
        {"points": [[-1, 5]]},
        {"points": []},
        {"points": [[5, 5]], "point_labels": [7]},
        {"points": [[5, 5]], "point_labels": [1, 1]},
        {"points": [[5, 5]] * 1001},
        {"point_labels": [1]},
    ],
)
def test_unusable_prompts_are_refused(painter, prompts):
    with pytest.raises(InputError):
        painter.predict(image(), **prompts)


@pytest.mark.parametrize(
    "shape, dtype",
    [((1, 1), np.uint8), ((1, 5000), np.uint8), ((5000, 1), np.uint16), ((40, 40), np.float64)],
)
def test_degenerate_images_give_finite_logits_of_their_own_size(painter, shape, dtype):
    encoded = painter.encode(np.full(shape, 7, dtype=dtype))
    logits, _ = painter.decode(encoded, [Prompt(box=np.array([0.0, 0, shape[1], shape[0]]))])
    assert logits.shape == (1, *shape)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize(
    "bad",
    [
        np.full((8, 8), np.nan),
        np.zeros((0, 8)),
        np.zeros((8, 8, 2)),
        np.zeros((2, 8, 8, 3)),
        np.zeros((8, 8), dtype=complex),
        np.array([["a"]]),
        np.zeros((1, 40_000), dtype=np.uint8),
    ],
)
def test_unusable_images_are_refused(painter, bad):
    with pytest.raises(InputError):
        painter.encode(bad)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, np.int32])
def test_colour_becomes_luminance_and_keeps_its_range(dtype):
    colour = np.zeros((2, 3, 4), dtype=dtype)
    colour[..., 0], colour[..., 1], colour[..., 2], colour[..., 3] = 200, 100, 50, 9
    expected = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    assert np.allclose(grey(colour), expected, atol=0.6)
    assert np.array_equal(grey(np.dstack([image()] * 3)), image())


def test_an_earlier_mask_of_another_size_is_refused(painter):
    prompt = Prompt(mask=np.zeros((32, 32), dtype=np.float32))
    with pytest.raises(InputError, match=r"is not \(64, 64\)"):
        painter.segment(image(), [prompt])


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 8)), max_size=9))
def test_the_box_around_a_mask_is_that_of_its_pixels(pixels):
    mask = np.zeros((9, 12), dtype=bool)
    for x, y in pixels:
        mask[y, x] = True
    xs, ys = [x for x, _ in pixels], [y for _, y in pixels]
    expected = (min(xs), min(ys), max(xs) + 1, max(ys) + 1) if pixels else None
    assert box_around(mask) == expected


def test_specks_outside_of_the_box_are_dropped():
    mask = np.zeros((20, 20), dtype=bool)
    mask[5:10, 5:10] = mask[9:14, 9:14] = True  # one region that leaves the box
    mask[0, 19] = mask[17:19, 0:2] = True
    box = np.array([4.0, 4.0, 10.5, 10.5])
    kept = regions_in_reach(mask, box)
    expected, _ = ndimage.label(mask, np.ones((3, 3)))
    assert np.array_equal(kept, expected == expected[7, 7])
    elsewhere = np.array([14.0, 1.0, 16.0, 3.0])  # nothing in reach: better all than nothing
    assert np.array_equal(regions_in_reach(mask, elsewhere), mask)


@given(st.integers(0, 10_000), st.floats(0.02, 0.5))
def test_regions_in_reach_are_those_that_scipy_finds(seed, share):
    rng = np.random.default_rng(seed)
    mask = ndimage.binary_dilation(rng.random((24, 32)) < share / 8, iterations=2)
    x0, x1 = sorted(rng.uniform(-2, 34, 2))
    y0, y1 = sorted(rng.uniform(-2, 26, 2))
    numbers, _ = ndimage.label(mask, np.ones((3, 3)))
    rows, columns = (
        slice(max(0, int(np.floor(y0))), max(0, int(np.ceil(y1)))),
        slice(max(0, int(np.floor(x0))), max(0, int(np.ceil(x1)))),
    )
    touched = set(numbers[rows, columns].ravel()) - {0}
    wanted = np.isin(numbers, list(touched)) if touched else mask
    found = regions_in_reach(mask, np.array([x0, y0, x1, y1]))
    np.testing.assert_array_equal(found, wanted)


def test_a_window_in_the_card_is_what_the_model_sees(painter, make_card):
    seen = []

    class Watching:
        decode = painter.backend.decode

        def encode(self, plane):
            seen.append(plane)
            return painter.backend.encode(plane)

    card = make_card(window_hu=(50.0, 400.0))
    again = Card.model_validate_json(card.model_dump_json())
    hounsfield = np.full((64, 64), 150.0)
    hounsfield[0, 0] = -1000
    Segmenter(Watching(), again).encode(hounsfield)
    assert seen[0][0, 0] == 0 and seen[0][5, 5] == 0.75  # (150 + 150) / 400
    with pytest.raises(ValidationError):
        make_card(window_hu=(50.0, 0.0))
    # Beside what else a card says of the input: the shape of the square and what surrounds the image
    wide = np.full((32, 64), 150.0)
    Segmenter(Watching(), make_card(window_hu=(50.0, 400.0), padding="mean")).encode(wide)
    assert seen[1][0, 0] == 0.75 and (seen[1][len(seen[1]) // 2 :] == -1).all()
    stretched = make_card(window_hu=(50.0, 400.0), padding="mean", fit="stretch")
    Segmenter(Watching(), stretched).encode(wide)
    assert (seen[2] == 0.75).all()


def test_nothing_is_found_on_a_picture_of_one_grey_value(painter, monkeypatch):
    """The frame of a probe in the air; whoever draws a box there gets an answer all the same."""

    def everything(encoding, coords, labels, masks=None):
        return np.full((len(coords), 64, 64), 8, np.float32), np.ones(len(coords), np.float32)

    monkeypatch.setattr(painter.backend, "decode", everything)
    grey = np.full((40, 50), 7, np.uint8)
    assert len(painter.predict(image())[0]) == 1
    assert len(painter.predict(grey)[0]) == 0
    assert painter.foreground(painter.encode(grey), [Prompt()]).max() < 1e-6
    assert len(painter.predict(grey, boxes=[5, 5, 20, 20])[0]) == 1
