"""The embedding cache: the grid rule by hand, damage in any byte, resuming."""

import os
import time
from functools import partial
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from samling.distillation.cache import EmbeddingCache, to_grid
from samling.errors import InputError

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


def test_many_processes_fill_one_cache(cache):
    planes = np.random.default_rng(2).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    with get_context("fork").Pool(3) as pool:
        counts = pool.map(partial(_fill, cache, planes), range(3))
    assert max(counts) < 30  # the work was shared
    assert 40 <= sum(counts) <= 60  # each item once, but for what two began at the same time
    assert all(cache.read(plane) is not None for plane in planes)


def _fill(cache, planes, _, asked=None):
    def slowly(images):
        if asked:
            with asked.open("ab") as stream:
                stream.write(b"." * len(images))
        time.sleep(0.01)
        return encode(images)

    return cache.fill(planes, slowly)


def test_killed_twenty_times_it_is_never_unreadable(cache, tmp_path):
    """Kill -9 at random moments: what is there is intact, and at most one item is done again."""
    planes = np.random.default_rng(3).integers(0, 256, (200, 8, 8), dtype=np.uint8)
    rng, asked = np.random.default_rng(4), tmp_path / "asked"
    for _ in range(20):
        child = get_context("fork").Process(target=_fill, args=(cache, planes, 0, asked))
        child.start()
        child.join(rng.uniform(0.02, 0.1))
        child.kill()
        child.join()
        done = list(cache.folder.glob("*.safetensors"))
        readable = sum(cache.read(plane) is not None for plane in planes)
        assert readable == len(done)
    left = cache.fill(planes, encode)
    assert 0 < len(done) == 200 - left
    assert len(done) <= asked.stat().st_size <= len(done) + 20  # what each kill interrupted
    fresh = EmbeddingCache(cache.root / "fresh", TEACHER, 4)
    fresh.fill(planes, encode)
    for plane in planes:
        np.testing.assert_array_equal(cache.read(plane), fresh.read(plane))


def test_what_a_kill_left_half_written_goes(tmp_path, planes):
    cache = EmbeddingCache(tmp_path, TEACHER, 4)
    cache.fill(planes[:1], encode)
    old, new = (cache.folder / f".{name}.safetensors.x.part" for name in ("old", "new"))
    for path, age in ((old, 3600), (new, 0)):
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age, time.time() - age))
    cache.make_room(planes, 2, limit=10**6)
    assert not old.exists() and new.exists()  # the new one may be another process's, at work
    assert cache.read(planes[0]) is not None


def test_old_files_of_other_teachers_make_room(tmp_path, planes):
    old, older = (EmbeddingCache(tmp_path, name * 32, 4) for name in ("cd", "ef"))
    for age, other in ((100, old), (200, older)):
        other.fill(planes[:3], encode)
        for file in other.folder.iterdir():
            os.utime(file, (time.time() - age, time.time() - age))
    size = next(old.folder.iterdir()).stat().st_size
    own = EmbeddingCache(tmp_path, TEACHER, 4)
    own.fill(planes[:1], encode)
    own.make_room(planes[:2], 2, limit=6 * size + 300)  # seven are there, one more is wanted
    assert len(list(older.folder.iterdir())) < 3
    assert len(list(old.folder.iterdir())) == 3
    assert own.read(planes[0]) is not None
    with pytest.raises(InputError, match="SAMLING_CACHE_GB"):
        own.make_room(planes, 2, limit=2 * size)
    assert len(list(old.folder.iterdir())) == 3
