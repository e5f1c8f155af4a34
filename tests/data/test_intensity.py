"""Intensity: min-max by hand, the order of LiteMedSAM's steps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samling.data.intensity import WINDOWS, Intensity, min_max, to_model, window_of
from samling.errors import InputError
from samling.prompts.frame import Frame


@given(
    st.floats(0.01, 1000), st.floats(-1000, 1000), st.sampled_from([np.uint8, np.int16, np.float32])
)
def test_min_max_is_free_of_scale_and_offset(gain, offset, dtype):
    image = np.random.default_rng(0).integers(0, 200, (6, 7)).astype(dtype)
    seen = min_max(image)
    assert seen.dtype == np.float32
    assert (seen.min(), seen.max()) == (0, 1)
    low, high = float(image.min()), float(image.max())
    np.testing.assert_allclose(seen, (image - low) / (high - low), atol=1e-6)
    np.testing.assert_allclose(min_max(image * gain + offset), seen, atol=1e-2)


@pytest.mark.parametrize("level", [0, 17, 255])
def test_a_constant_image_is_zero(level):
    assert not min_max(np.full((4, 5), level, np.uint8)).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad):
    image = np.zeros((4, 5), np.float32)
    image[2, 3] = bad
    with pytest.raises(ValueError, match="not finite"):
        min_max(image)


def test_padding_comes_last_and_does_not_enter_the_minimum():
    image = np.array([[100, 150], [200, 250]] * 2, np.uint8).repeat(4, 0).repeat(4, 1)  # 16 x 8
    plane = to_model(image, Frame(16, 8, 16))
    assert plane.shape == (16, 16)
    assert plane.dtype == np.float32
    np.testing.assert_allclose(np.unique(plane[:, :8]), [0, 1 / 3, 2 / 3, 1], atol=1e-6)
    assert not plane[:, 8:].any()


def test_the_image_is_resized_before_its_range_is_taken():
    image = np.zeros((64, 64), np.float32)
    image[0, 0] = 1000  # one bright speck, averaged away by a factor of 16
    image[32:, :] = 100
    plane = to_model(image, Frame(64, 64, 16))
    np.testing.assert_allclose(plane[0, 0], 1000 / 16 / 100, rtol=1e-5)
    np.testing.assert_allclose(plane[8:], 1)


@pytest.mark.parametrize("name", WINDOWS)
def test_a_window_is_centre_and_width(name):
    centre, width = WINDOWS[name]
    ends = np.array([[-3000, centre - width / 2, centre, centre + width / 2, 3000]])
    np.testing.assert_allclose(Intensity(window_of(name)).apply(ends), [[0, 0, 0.5, 1, 1]])


def test_windows_by_hand():
    # 40 +- 175: -135 is 0, 215 is 1, 127.5 is three quarters
    seen = Intensity(window_of("40,350")).apply(np.array([[-135, 127.5], [215, 1000]]))
    np.testing.assert_allclose(seen, [[0, 0.75], [1, 1]])


@pytest.mark.parametrize("text", ["40,0", "40,-3", "heart", "40", "1,2,3", "nan,3", "1,inf"])
def test_unusable_windows(text):
    with pytest.raises(InputError, match="window"):
        window_of(text)


def test_clahe_brings_out_a_faint_pattern():
    y, x = np.mgrid[:128, :128]
    faint = 100 + 3 * np.sin(x / 2) + 3 * np.cos(y / 3)
    faint[0, 0], faint[0, 1] = 0, 400
    seen, inner = Intensity(clahe=4.0).apply(faint), np.s_[16:112, 16:112]
    assert seen.min() >= 0 and seen.max() <= 1
    assert seen[inner].std() > 5 * min_max(faint)[inner].std()
    assert np.corrcoef(seen[inner].ravel(), faint[inner].ravel())[0, 1] > 0.9


@pytest.mark.parametrize("side", [128, 512])
def test_the_clip_limit_of_clahe_limits_contrast(side):
    rng = np.random.default_rng(0)
    image = rng.normal(100, 1, (side, side))
    image[0, :2] = 0, 255
    inner = np.s_[16:-16, 16:-16]
    contrast = [Intensity(clahe=limit).apply(image)[inner].std() for limit in (1, 2, 4)]
    assert contrast[0] * 1.3 < contrast[1] and contrast[1] * 1.3 < contrast[2]


def test_window_and_clahe_come_before_the_resize():
    image = np.zeros((4, 4))
    image[:, ::2] = 2000  # averaged first, the window would be left: all 1 instead of a half
    seen = to_model(image, Frame(4, 4, 2), Intensity((50, 400)))
    np.testing.assert_allclose(seen, (1 + 0.375) / 2)
    np.testing.assert_array_equal(to_model(image, Frame(4, 4, 2), Intensity()), 0)


def test_a_window_does_not_hide_values_that_are_not_finite():
    with pytest.raises(ValueError, match="finite"):
        Intensity((50, 400)).apply(np.array([[np.nan, 1]]))
