import cv2
import numpy as np
import pytest

from samling.errors import InputError
from samling.inference.overlay import draw, write_png
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


def test_without_objects_it_is_the_image_in_eight_bits(image):
    drawn = draw(image, [])
    assert drawn.dtype == np.uint8
    assert (drawn.min(), drawn.max()) == (0, 255)


@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (400, 3)])
def test_tiny_images_and_empty_objects_can_be_drawn(shape):
    empty, full = np.zeros(shape, dtype=bool), np.ones(shape, dtype=bool)
    drawn = draw(np.zeros(shape, dtype=np.uint8), [thing(empty), thing(full)])
    assert drawn.shape == (*shape, 3)


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
