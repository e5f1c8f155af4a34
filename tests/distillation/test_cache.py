"""The embedding cache: the grid rule by hand, damage in any byte, resuming."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from samling.distillation.cache import EmbeddingCache, to_grid

TEACHER = "ab" * 32


def encode(images):
    """(B, 1, 8, 8) -> (B, 2, 4, 4): means of 2 x 2 pixels, and their negatives."""
    cells = images.view(-1, 1, 4, 2, 4, 2).mean(dim=(3, 5))
    return torch.cat([cells, -cells], dim=1)


@pytest.fixture
def planes():
    return np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)


@pytest.fixture
def cache(tmp_path):
    return EmbeddingCache(tmp_path, TEACHER, 4)


def test_a_finer_teacher_is_averaged_over_cells():
    embedding = torch.arange(32.0).view(1, 2, 4, 4)
    by_hand = [[[2.5, 4.5], [10.5, 12.5]], [[18.5, 20.5], [26.5, 28.5]]]
    torch.testing.assert_close(to_grid(embedding, 2), torch.tensor([by_hand]))


def test_a_coarser_teacher_is_interpolated_between_centres():
    embedding = torch.tensor([[[[0.0, 4.0], [8.0, 12.0]]]])
    along = torch.tensor([0.0, 1.0, 3.0, 4.0])  # centres at 1/8, 3/8, 5/8, 7/8 of the width
    expected = along.view(1, 4) + 2 * along.view(4, 1)
    torch.testing.assert_close(to_grid(embedding, 4), expected.view(1, 1, 4, 4))


def test_the_same_grid_is_left_alone():
    embedding = torch.randn(2, 3, 4, 4)
    assert torch.equal(to_grid(embedding, 4), embedding)


def test_what_is_written_is_read(cache, planes):
    embedding = np.random.default_rng(1).normal(size=(2, 4, 4)).astype(np.float16)
    assert cache.read(planes[0]) is None
    cache.write(planes[0], embedding)
    np.testing.assert_array_equal(cache.read(planes[0]), embedding)
    assert cache.read(planes[0]).dtype == np.float16
    assert cache.read(planes[1]) is None


def test_the_plane_alone_names_the_file(cache, planes):
    mirrored = planes[0, :, ::-1]
    assert cache.path(mirrored) == cache.path(np.ascontiguousarray(mirrored))
    assert cache.path(mirrored) != cache.path(planes[0])


def test_another_teacher_or_grid_has_another_folder(tmp_path, planes):
    EmbeddingCache(tmp_path, TEACHER, 4).write(planes[0], np.zeros((2, 4, 4), np.float16))
    assert EmbeddingCache(tmp_path, TEACHER, 2).read(planes[0]) is None
    assert EmbeddingCache(tmp_path, "cd" * 32, 4).read(planes[0]) is None


def test_fill_keeps_what_the_teacher_says(cache, planes):
    said = []
    count = cache.fill(planes, encode, batch_size=2, advance=lambda *n: said.append(n))
    assert count == 5
    assert said == [(2, 5), (4, 5), (5, 5)]
    for plane in planes:
        means = plane.reshape(4, 2, 4, 2).mean(axis=(1, 3)) / 255
        np.testing.assert_allclose(cache.read(plane), [means, -means], atol=1e-3)


def test_fill_computes_only_what_is_missing(cache, planes):
    seen = []

    def recording(images):
        seen.extend(images.mean(dim=(1, 2, 3)).tolist())
        if len(seen) == 2:
            raise KeyboardInterrupt
        return encode(images)

    with pytest.raises(KeyboardInterrupt):
        cache.fill(planes, recording)
    assert cache.fill(planes, recording) == 4
    assert len(seen) == 2 + 4
    assert cache.fill(planes, recording) == 0
    assert len(seen) == 6


@given(position=st.integers(0, 10**6), value=st.integers(0, 255))
def test_a_changed_byte_is_never_believed(tmp_path_factory, position, value):
    folder = tmp_path_factory.mktemp("cache")
    cache, plane = EmbeddingCache(folder, TEACHER, 4), np.zeros((8, 8), np.uint8)
    embedding = np.random.default_rng(1).normal(size=(2, 4, 4)).astype(np.float16)
    cache.write(plane, embedding)
    content = bytearray(cache.path(plane).read_bytes())
    content[position % len(content)] = value
    cache.path(plane).write_bytes(content)
    assert_intact_or_missing(cache, plane, embedding)


def test_every_flipped_byte_is_found_and_rebuilt(cache):
    """Every position, among them the table in front: a type I16 would read other numbers."""
    plane = np.zeros((8, 8), np.uint8)
    embedding = np.random.default_rng(1).normal(size=(2, 4, 4)).astype(np.float16)
    cache.write(plane, embedding)
    path = cache.path(plane)
    whole = path.read_bytes()
    assert whole.count(b"F16") == 1
    for position in range(len(whole)):
        for change in (0x01, 0x0F, 0xFF):
            damaged = bytearray(whole)
            damaged[position] ^= change
            path.write_bytes(damaged)
            assert_intact_or_missing(cache, plane, embedding)
    for damaged in (b"", whole[:7], whole[:60], whole[:-1], whole + b"\0"):
        path.write_bytes(damaged)
        assert cache.read(plane) is None
    assert cache.fill(plane[None], encode) == 1
    assert cache.fill(plane[None], encode) == 0
    np.testing.assert_array_equal(cache.read(plane), np.zeros((2, 4, 4)))


def assert_intact_or_missing(cache, plane, embedding):
    """A changed blank in the table harms nothing: then the numbers must be the written ones."""
    read = cache.read(plane)
    if read is not None:
        assert read.dtype == np.float16
        assert read.shape == embedding.shape
        np.testing.assert_array_equal(read, embedding)


def test_a_changed_weight_is_always_found(cache, planes):
    cache.write(planes[0], np.ones((2, 4, 4), np.float16))
    path = cache.path(planes[0])
    content = bytearray(path.read_bytes())
    for position in range(len(content) - 64, len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0x01
        path.write_bytes(damaged)
        assert cache.read(planes[0]) is None
