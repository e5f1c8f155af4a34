from dataclasses import replace

import cv2
import numpy as np
import pytest

from samling.errors import InputError
from samling.inference.expectation import Expected
from samling.inference.overlay import COLOURS, draw, legend, said_of, write_png
from samling.inference.regions import box_around
from samling.inference.segmenter import Object


def thing(mask):
    return Object(mask, 0.875, 0.9, None, box_around(mask), "object")


@pytest.fixture
def image():
    return np.tile(np.arange(200, dtype=np.uint16) * 50, (150, 1))


def test_only_the_outline_the_box_and_the_score_are_coloured(image):
    mask = np.zeros(image.shape, dtype=bool)
    mask[60:100, 80:140] = True
    drawn = draw(image, [thing(mask)])
    coloured = (drawn != drawn[..., :1]).any(axis=2)
    assert drawn.shape == (150, 200, 3)
    assert coloured[60, 80:140].all()
    assert not coloured[70:90, 90:130].any()
    assert not coloured[110:].any()
    assert not coloured[:, :70].any()


def test_the_number_beside_an_object_says_what_it_is():
    found = thing(np.ones((4, 4), dtype=bool))
    assert said_of(found) == "score 0.88"
    assert said_of(replace(found, expected=Expected(0.91, 0.82, 0.98))) == "expected 0.91"
    assert said_of(replace(found, expected=Expected(0.7, 0.4, 0.9))) == "expected 0.70, look"


def named(name, left):
    mask = np.zeros((150, 200), dtype=bool)
    mask[20:60, left : left + 40] = True
    return Object(mask, 0.5, 0.5, None, box_around(mask), name)


def side_colours(drawn, *columns):
    """The colours of the boxes whose left sides these are: boxes have half the brightness."""
    faint = {tuple(channel // 2 for channel in colour): colour for colour in COLOURS}
    return [faint[tuple(int(value) for value in drawn[40, column])] for column in columns]


def test_of_several_classes_a_colour_is_a_class_and_the_legend_shows_it(image):
    found = [named("tumour", 10), named("liver", 60), named("tumour", 120)]
    drawn = draw(image, found, ("liver", "tumour"))
    assert side_colours(drawn, 10, 60, 120) == [COLOURS[1], COLOURS[0], COLOURS[1]]
    plate = legend(("liver", "tumour"), 10)
    assert (drawn[-plate.shape[0] :, : plate.shape[1]] == plate).all()
    upper, lower = np.vsplit(plate[2:-2], 2)
    for half, colour, other in ((upper, *COLOURS[:2]), (lower, *COLOURS[1::-1])):
        assert (half == colour).all(axis=2).sum() > 20 and not (half == other).all(axis=2).any()


def test_of_one_class_every_object_has_its_colour_and_nothing_is_covered(image):
    drawn = draw(image, [named("object", 10), named("object", 60)], ("object",))
    assert side_colours(drawn, 10, 60) == list(COLOURS[:2])
    assert (drawn[100:] == drawn[100:, :, :1]).all()


def test_without_objects_it_is_the_image_in_eight_bits(image):
    drawn = draw(image, [])
    assert drawn.dtype == np.uint8
    assert (drawn.min(), drawn.max()) == (0, 255)


@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (400, 3)])
def test_tiny_images_and_empty_objects_can_be_drawn(shape):
    empty, full = np.zeros(shape, dtype=bool), np.ones(shape, dtype=bool)
    drawn = draw(np.zeros(shape, dtype=np.uint8), [thing(empty), thing(full)])
    assert drawn.shape == (*shape, 3)
    assert draw(np.zeros(shape, np.uint8), [], ("liver", "tumour")).shape == (*shape, 3)


def test_a_png_is_read_back_in_the_same_colours(tmp_path):
    colours = np.zeros((4, 5, 3), dtype=np.uint8)
    colours[..., 0] = 200
    write_png(tmp_path / "new" / "a.png", colours)
    back = cv2.imread(str(tmp_path / "new" / "a.png"))
    assert (back[..., 2] == 200).all()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


def test_a_place_that_cannot_be_written_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_png(tmp_path / "file" / "a.png", np.zeros((2, 2), dtype=np.uint8))
