"""Clean-up of volumes, against a ball laid voxel by voxel and against counting."""

import numpy as np
import pytest
from scipy import ndimage

from samling.errors import InputError
from samling.inference import clean_volume as module
from samling.inference.clean_volume import CleanUp, clean_labels

SPACING = (2.0, 1.0, 0.5)
VOXEL_ML = 0.001


def clean(labels, **steps):
    return clean_labels(np.asarray(labels, np.uint8), CleanUp(**steps), SPACING, VOXEL_ML)


def ball(radius):
    z, y, x = (np.arange(-9, 10) * step for step in SPACING)
    return z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 <= radius**2


@pytest.fixture
def blobs():
    noise = np.random.default_rng(3).normal(size=(20, 40, 50))
    marks = ndimage.gaussian_filter(noise, (1.5, 3, 5)) > 0.01
    marks[[0, -1]] = marks[:, [0, -1]] = marks[:, :, [0, -1]] = False
    return marks


@pytest.mark.parametrize("radius", [1.3, 2.6])
def test_opening_and_closing_use_a_ball_in_mm(blobs, radius):
    opened = ndimage.binary_opening(blobs, ball(radius))
    np.testing.assert_array_equal(clean(blobs, opening=radius) > 0, opened)
    wide = np.pad(blobs, 10)
    closed = ndimage.binary_closing(wide, ball(radius))[10:-10, 10:-10, 10:-10]
    np.testing.assert_array_equal(clean(blobs, closing=radius) > 0, closed)


def test_largest_part_of_the_organ_only():
    labels = np.zeros((8, 20, 20), np.uint8)
    labels[1:5, 1:9, 1:9] = 1
    labels[6, 15:17, 15:17] = 1
    labels[2, 3, 3] = labels[3, 6:8, 6:8] = 2
    cleaned = clean(labels, largest=True)
    expected = labels.copy()
    expected[6] = 0
    np.testing.assert_array_equal(cleaned, expected)  # both lesions are still there


def test_small_parts_go_by_millilitres():
    labels = np.zeros((5, 10, 10), np.uint8)
    labels[1, 1:4, 1:4] = 1  # 0.009 ml
    labels[3, 6:8, 6:8] = 1  # 0.004 ml
    assert (clean(labels, minimum=0.004) > 0).sum() == 13
    assert (clean(labels, minimum=0.005) > 0).sum() == 9
    assert not clean(labels, minimum=0.01).any()


def test_filled_holes_do_not_cover_the_tumour():
    labels = np.zeros((7, 9, 9), np.uint8)
    labels[1:6, 1:8, 1:8] = 1
    labels[3, 3:6, 3:6] = 2
    labels[3, 4, 4] = 0
    labels[2, 6, 6] = 0
    cleaned = clean(labels, holes=True)
    assert cleaned[2, 6, 6] == 1 and cleaned[3, 4, 4] in (1, 2)
    assert (cleaned[3, 3:6, 3:6] == 2).sum() >= 8 and (cleaned > 0).sum() == 5 * 49


def test_steps_are_switchable():
    labels = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.uint8)
    np.testing.assert_array_equal(clean(labels), labels)
    assert CleanUp.parse("") == CleanUp()
    assert CleanUp.parse("holes, minimum=0.5") == CleanUp(holes=True, minimum=0.5)
    for text in ("biggest", "largest=1", "opening", "opening=-1", "closing=x", "minimum=nan"):
        with pytest.raises(InputError, match="--clean"):
            CleanUp.parse(text)


def test_nested_classes_are_cleaned_as_a_whole_and_from_outside_in():
    labels = np.zeros((6, 30, 30), np.uint8)
    labels[1:5, 2:20, 2:20] = 1
    labels[2:4, 8:12, 8:12] = 2  # a tumour; it is no hole of the liver
    labels[2, 15, 15] = 2  # a speck of tumour becomes liver
    labels[1:5, 24:28, 24:28] = 1  # another organ
    labels[2, 25, 25] = 2  # and what is inside it
    steps = CleanUp(holes=True, largest=True, minimum=4 * VOXEL_ML)
    cleaned = clean_labels(labels, steps, SPACING, VOXEL_ML, nested=True)
    expected = np.zeros_like(labels)
    expected[1:5, 2:20, 2:20] = 1
    expected[2:4, 8:12, 8:12] = 2
    np.testing.assert_array_equal(cleaned, expected)


def test_slabs_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    labels = (ndimage.gaussian_filter(rng.random((40, 24, 24)), 2) > 0.5).astype(np.uint8)
    steps = {"opening": 2.1, "closing": 3.3}
    whole = clean(labels, **steps)
    monkeypatch.setattr(module, "_SLAB_VOXELS", 3 * 24 * 24)
    np.testing.assert_array_equal(clean(labels, **steps), whole)
    assert (whole != labels).any()
