"""Frame against hand-made coordinates, OpenCV-free formulas and a linear ramp."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from samling.prompts.frame import Frame

SIZES = st.integers(1, 3000)


@given(SIZES, SIZES, st.integers(8, 1024), st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_there_and_back_is_the_same_point(height, width, size, share):
    frame = Frame(height, width, size)
    point = np.array(share) * [width, height]
    there = frame.to_model(point)
    assert (there >= 0).all()
    assert (there <= np.array(frame.inner)[::-1] + 1e-9).all()
    np.testing.assert_allclose(frame.to_original(there), point, atol=1e-9)


@given(SIZES, SIZES, st.sampled_from([256, 1024]))
def test_inner_size_follows_the_rule_of_litemedsam(height, width, size):
    scale = size / max(height, width)
    expected = (int(height * scale + 0.5), int(width * scale + 0.5))
    inner = Frame(height, width, size).inner
    assert inner == tuple(max(1, side) for side in expected)
    assert max(inner) == size


def test_corners_of_the_image_are_corners_of_the_inner_part():
    frame = Frame(300, 500, 256)  # 153.6 rows are rounded to 154
    assert frame.inner == (154, 256)
    corners = frame.to_model(np.array([[0.0, 0.0], [500.0, 300.0]]))
    np.testing.assert_allclose(corners, [[0, 0], [256, 154]])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(300, 500), (40, 30), (256, 256), (30, 40, 3)])
def test_image_to_model_keeps_dtype_and_constant_values(dtype, shape):
    frame = Frame(*shape[:2], 256)
    resized = frame.image_to_model(np.full(shape, 77, dtype=dtype))
    assert resized.dtype == dtype
    assert resized.shape == (*frame.inner, *shape[2:])
    np.testing.assert_allclose(resized, 77, rtol=1e-6)


def test_shrinking_counts_every_pixel():
    image = np.random.default_rng(0).random((512, 512)).astype(np.float32)
    means = image.reshape(128, 4, 128, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(Frame(512, 512, 128).image_to_model(image), means, atol=1e-6)


def test_padding_is_zero_at_the_right_and_the_bottom():
    frame = Frame(20, 40, 32)
    padded = frame.pad(np.ones(frame.inner, np.uint16))
    assert padded.shape == (32, 32)
    assert padded.dtype == np.uint16
    assert padded[:16].all()
    assert not padded[16:].any()


def test_labels_keep_their_numbers_and_their_place():
    labels = np.zeros((128, 64), np.uint8)
    labels[32:96, 16:48] = 7
    moved = Frame(128, 64, 256).labels_to_model(labels)
    expected = np.zeros((256, 256), np.uint8)
    expected[64:192, 32:96] = 7
    np.testing.assert_array_equal(moved, expected)


@pytest.mark.parametrize("shape", [(480, 640), (100, 80), (700, 500), (64, 64)])
@pytest.mark.parametrize("grid", [64, 256])
@pytest.mark.parametrize("axis", [0, 1])
def test_logits_that_hold_their_own_position_return_that_position(shape, grid, axis):
    """A ramp whose value is the model coordinate must show each original pixel its own centre."""
    size = 256
    frame, cell = Frame(*shape, size), size / grid
    ramp = np.broadcast_to((np.arange(grid) + 0.5) * cell, (grid, grid)).astype(np.float32)
    out = frame.logits_to_original((ramp if axis == 1 else ramp.T)[None])
    assert out.shape == (1, *shape)
    assert out.dtype == np.float32
    centres = (np.arange(shape[axis]) + 0.5) * frame.scale[1 - axis]
    seen = out[0, 0] if axis == 1 else out[0, :, 0]
    # Beyond the outermost cell centres the border value is repeated
    wanted = np.clip(centres, cell / 2, size - cell / 2)
    np.testing.assert_allclose(seen, wanted, atol=1e-4)


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([16, 64]), st.integers(0, 99))
def test_logits_are_sampled_bilinearly_at_every_pixel(height, width, grid, seed):
    frame = Frame(height, width, 256)
    low = np.random.default_rng(seed).normal(size=(2, grid, grid)).astype(np.float32)
    rows, columns = (
        (np.arange(n) + 0.5) * scale * grid / 256 - 0.5
        for n, scale in ((height, frame.scale[1]), (width, frame.scale[0]))
    )
    where = np.meshgrid(rows, columns, indexing="ij")
    wanted = [map_coordinates(plane, where, order=1, mode="nearest") for plane in low]
    np.testing.assert_allclose(frame.logits_to_original(low), wanted, atol=1e-4)


def test_no_planes_give_no_planes():
    out = Frame(30, 40, 256).logits_to_original(np.zeros((0, 64, 64), np.float32))
    assert out.shape == (0, 30, 40)


@pytest.mark.parametrize("sizes", [(0, 4, 4), (4, -1, 4), (4, 4, 0)])
def test_sizes_must_be_positive(sizes):
    with pytest.raises(ValueError, match="positive sizes"):
        Frame(*sizes)


@given(SIZES, SIZES, st.integers(8, 300), st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_stretched_there_and_back_is_the_same_point(height, width, size, share):
    frame = Frame(height, width, size, "stretch")
    assert frame.inner == (size, size)
    point = np.array(share) * [width, height]
    np.testing.assert_allclose(frame.to_model(point), np.array(share) * size, atol=1e-6)
    np.testing.assert_allclose(frame.to_original(frame.to_model(point)), point, atol=1e-6)


def test_stretching_averages_where_it_shrinks_and_interpolates_where_it_enlarges():
    rows = np.linspace(0, 1, 512, dtype=np.float32)[:, None] * np.ones((1, 64), np.float32)
    noise = np.random.default_rng(0).random((512, 1)).astype(np.float32)
    image = rows + noise
    stretched = Frame(512, 64, 128, "stretch").image_to_model(image)
    means = image.reshape(128, 4, 64).mean(axis=1)
    assert stretched.shape == (128, 128)
    np.testing.assert_allclose(stretched, np.repeat(means, 2, axis=1), atol=1e-5)


def test_padding_has_the_value_that_is_asked_for():
    padded = Frame(20, 40, 32).pad(np.ones((16, 32), np.float32), -1)
    assert (padded[:16] == 1).all()
    assert (padded[16:] == -1).all()
