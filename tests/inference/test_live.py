import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from samling.errors import InputError
from samling.inference.backend import Encoding
from samling.inference.expectation import Calibration, Curve
from samling.inference.live import AHEAD, CERTAIN, LiveSegmenter, Smoothing, ahead
from samling.inference.segmenter import Segmenter
from samling.prompts.prompt import Prompt


def disc(x, size=64, radius=10):
    yy, xx = np.mgrid[:size, :size]
    return (((xx - x) ** 2 + (yy - 32) ** 2 <= radius**2) * 200 + 20).astype(np.uint8)


def test_ahead_gives_the_same_items_and_reads_no_further_than_it_may():
    read = []

    def source():
        for number in range(20):
            read.append(number)
            yield number

    for number in ahead(source()):
        time.sleep(0.002)
        assert len(read) <= number + 1 + AHEAD
    assert read == list(range(20))


def test_a_fault_of_the_source_arrives_behind_the_frames_before_it():
    def source():
        yield 1
        yield 2
        raise OSError("unplugged")

    got = []
    with pytest.raises(OSError, match="unplugged"):
        for item in ahead(source()):
            got.append(item)
    assert got == [1, 2]


def test_a_stream_that_breaks_off_leaves_no_thread_at_work(painting_backend, make_card):
    """A network that still computes while Python ends would abort the process."""
    before = set(threading.enumerate())

    def slow(frame):
        time.sleep(0.05)
        return painting_backend.encode(frame)

    segmenter = Segmenter(SimpleNamespace(encode=slow, decode=None), make_card())
    outside = Prompt(box=np.array([900.0, 900, 990, 990]))
    with pytest.raises(InputError, match="lies outside"):
        list(LiveSegmenter(segmenter, outside).stream(disc(x) for x in range(16, 48, 4)))
    assert set(threading.enumerate()) <= before


def test_every_frame_is_answered_in_order_with_the_masks_of_single_images(
    painting_backend, make_card
):
    segmenter = Segmenter(painting_backend, make_card())
    frames = [disc(x) for x in range(16, 48, 4)]
    found = list(LiveSegmenter(segmenter, Prompt(), smooth=False).stream(iter(frames)))
    assert [frame.number for frame in found] == list(range(8))
    for frame, image in zip(found, frames, strict=True):
        (alone,) = segmenter.segment(image, [Prompt()])
        assert np.array_equal(frame.objects[0].mask, alone.mask)


def test_smoothing_follows_a_certain_change_at_once_and_forgets_after_one_frame():
    smoothing = Smoothing(0.0)

    def shown(value):
        smoothing.next_frame()
        return smoothing(np.full((4, 4), value, dtype=np.float32))[0, 0]

    assert shown(-9.0) < 0
    assert shown(9.0) > 0  # at once
    assert shown(-9.0) < 0
    # two thirds of 0.5, one third of a certain no: flicker is held back for one frame ...
    assert shown(0.5) == pytest.approx(2 / 3 * 0.5 - CERTAIN / 3)
    # ... and no longer: nothing of the frame before the last is left
    assert shown(0.5) == pytest.approx(0.5)


def test_what_was_not_answered_in_the_frame_before_is_forgotten():
    smoothing = Smoothing(0.0)
    smoothing.next_frame()
    smoothing(np.full((4, 4), -9.0, dtype=np.float32))
    smoothing.next_frame()
    smoothing.next_frame()
    assert smoothing(np.full((4, 4), 0.5, dtype=np.float32))[0, 0] == pytest.approx(0.5)


def test_a_box_follows_an_object_that_moves(make_card):
    """The model answers with the bright pixels inside the box: only a carried box can follow."""

    class Inside:
        def encode(self, plane):
            return Encoding(plane[None, None], None)

        def decode(self, encoding, coords, labels, masks=None):
            plane = encoding.embedding[0, 0]
            (x0, y0), (x1, y1) = coords[0][:2]
            yy, xx = np.mgrid[:64, :64]
            inside = (xx >= x0 - 0.5) & (xx <= x1 + 0.5) & (yy >= y0 - 0.5) & (yy <= y1 + 0.5)
            low = np.where(inside & (plane > 0.5), 8.0, -8.0)
            return low[None].astype(np.float32), np.array([0.9], dtype=np.float32)

    live = LiveSegmenter(Segmenter(Inside(), make_card()), Prompt(box=np.array([9.0, 20, 32, 44])))
    found = list(live.stream(disc(x) for x in range(20, 45)))
    true = [int((disc(x) > 100).sum()) for x in range(20, 45)]
    for frame, area in zip(found, true, strict=True):
        assert frame.objects[0].mask.sum() > 0.8 * area
    assert found[-1].objects[0].box[2] > 50


def test_an_object_that_is_not_there_at_first_is_asked_for_until_it_comes(make_card):
    class Dark:
        """Answers with the bright pixels, whatever the box."""

        def encode(self, plane):
            return Encoding(plane[None, None], None)

        def decode(self, encoding, coords, labels, masks=None):
            low = np.where(encoding.embedding[0] > 0.5, 8.0, -8.0)
            return low.astype(np.float32), np.array([0.9], dtype=np.float32)

    card = make_card(prompts=("box",))
    live = LiveSegmenter(Segmenter(Dark(), card), Prompt(box=np.array([9.0, 9, 55, 55])))
    empty = np.zeros((64, 64), dtype=np.uint8)
    found = list(live.stream([empty, empty, disc(30), disc(32), empty, disc(33)]))
    assert [frame.objects[0].box is not None for frame in found] == [
        False,
        False,
        *[True] * 2,
        False,
        True,
    ]
    assert [frame.needs_help for frame in found] == [True, True, False, False, True, False]


def test_after_a_click_no_dice_is_expected_of_the_first_frame(painting_backend, make_card):
    curve = Curve(quality=(0.5,), dice=(0.9,), margin=0.1, objects=20)
    known = Calibration(
        level=0.9,
        temperature=1.0,
        store="s",
        split_hash="h",
        curves={"box": curve, "points": curve},
    )
    segmenter = Segmenter(painting_backend, make_card(calibration=known))
    box, click = np.array([6.0, 22, 27, 43]), (np.array([[16.5, 32.5]]), np.array([1]))
    for prompt, promised in ((Prompt(box=box), True), (Prompt(box, *click), False)):
        (first,) = LiveSegmenter(segmenter, prompt).stream([disc(16)])
        assert (first.objects[0].expected is not None) is promised
