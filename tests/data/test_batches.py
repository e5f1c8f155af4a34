"""Batches: what is read is what is stored, every case once an epoch, replayable."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from samling.data.batches import (
    Planes,
    balanced_batches,
    close_ups,
    epoch_batches,
    read_planes,
)
from samling.data.case import Case
from samling.data.intensity import Intensity, to_model
from samling.data.splits import Splits
from samling.data.store import Store, write_store
from samling.errors import InputError
from samling.prompts.frame import Frame


@given(st.integers(0, 40), st.integers(1, 12), st.integers(0, 99))
def test_an_epoch_holds_every_case_once(count, size, seed):
    batches = list(epoch_batches(count, size, np.random.default_rng(seed)))
    assert sorted(np.concatenate([*batches, []])) == list(range(count))
    assert all(len(batch) == size for batch in batches[:-1])
    assert all(1 <= len(batch) <= size for batch in batches)


def test_the_order_follows_the_generator():
    first, again, other = (
        np.concatenate(list(epoch_batches(50, 8, np.random.default_rng(seed)))).tolist()
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def two_stores(large, small):
    names = [f"a/{n}" for n in range(large)] + [f"b/{n}" for n in range(small)]
    nothing = np.zeros((len(names), 2, 2), np.uint8)
    return Planes(nothing, nothing, tuple(names))


@pytest.mark.parametrize(
    ("exponent", "of_the_small_one"), [(1, 4), (0.5, 100 * 2 / (96**0.5 + 2)), (0, 50)]
)
def test_a_small_store_comes_more_often(exponent, of_the_small_one):
    rng = np.random.default_rng(0)
    batches = list(balanced_batches(two_stores(96, 4), exponent, 16, rng))
    order = np.concatenate(batches)
    assert len(order) == 100
    small = order[order >= 96]
    assert abs(len(small) - of_the_small_one) <= 0.5 + 1e-9
    counts = np.bincount(small, minlength=100)[96:]
    assert counts.max() - counts.min() <= 1  # every case in turn
    assert np.bincount(order[order < 96]).max() == 1
    assert all(len(batch) == 16 for batch in batches[:-1])


@pytest.mark.parametrize(
    ("exponent", "count", "of_the_small_one"), [(1, 50, 2), (0, 20, 10), (0.5, 240, 41)]
)
def test_an_epoch_of_another_length_keeps_the_shares(exponent, count, of_the_small_one):
    rng = np.random.default_rng(0)
    order = np.concatenate(list(balanced_batches(two_stores(96, 4), exponent, 16, rng, count)))
    assert len(order) == count
    counts = np.bincount(order, minlength=100)
    assert counts[96:].sum() == of_the_small_one  # 4 ** e / (96 ** e + 4 ** e) of them
    for own in (counts[:96], counts[96:]):
        assert own.max() - own.min() <= 1  # nobody twice before everybody came once


def test_planes_are_the_stored_cases_at_model_size(tiny_store):
    store = Store.open(tiny_store)
    planes = read_planes([(store, store.splits.train), (store, store.splits.val)], 48)
    ids = [*store.splits.train.ids, *store.splits.val.ids]
    assert planes.names == tuple(f"{store.name}/{case_id}" for case_id in ids)
    assert planes.images.shape == planes.labels.shape == (len(ids), 48, 48)
    assert planes.images.dtype == planes.labels.dtype == np.uint8
    for index, case_id in enumerate(ids):
        case = store.case(case_id)
        frame = Frame(*case.image.shape, 48)
        np.testing.assert_allclose(
            planes.images[index] / 255, to_model(case.image, frame), atol=0.5 / 255 + 1e-6
        )
        expected = frame.labels_to_model((case.labels > 0).astype(np.uint8))
        np.testing.assert_array_equal(planes.labels[index], expected)


def test_no_cases_are_no_planes():
    planes = read_planes([], 48)
    assert len(planes) == 0
    assert planes.images.shape == (0, 48, 48)


def test_tensors_are_scaled_and_chosen():
    images = np.arange(3 * 4, dtype=np.uint8).reshape(3, 2, 2) * 20
    labels = (images > 100).astype(np.uint8)
    planes = Planes(images, labels, ("a", "b", "c"))
    chosen, masks = planes.tensors(np.array([2, 0]))
    assert chosen.dtype == masks.dtype == torch.float32
    torch.testing.assert_close(chosen, torch.from_numpy(images[[2, 0]] / 255).float()[:, None])
    assert masks.tolist() == labels[[2, 0]].tolist()


@pytest.mark.parametrize("part", ["train", "val"])
def test_parts_do_not_mix(tiny_store, part):
    store = Store.open(tiny_store)
    split = getattr(store.splits, part)
    names = read_planes([(store, split)], 32).names
    others = set(store.splits.test.ids) | {
        i for other in ("train", "val") if other != part for i in getattr(store.splits, other).ids
    }
    assert not {name.partition("/")[2] for name in names} & others


def test_close_ups_show_the_largest_object_alone():
    images = np.full((3, 64, 64), 50, np.uint8)
    labels = np.zeros((3, 64, 64), np.uint8)
    labels[0, 20:36, 10:30] = 1  # 20 x 16 about (20, 28)
    labels[0, 50:56, 20:26] = 1  # smaller, below the square of twice the box
    labels[2, 0:20, 50:64] = 1  # cut by the edges
    images[labels > 0] = 150
    seen = close_ups(Planes(images, labels, ("a", "b", "c")), 2.0)
    assert seen.names == ("a", "c")  # "b" has no object
    assert seen.images.shape == seen.labels.shape == (2, 64, 64)
    # 40 px become 64: the object is 32 x 26 and in the middle
    rows, columns = np.where(seen.labels[0])
    assert abs(np.ptp(columns) + 1 - 32) <= 2
    assert abs(np.ptp(rows) + 1 - 25.6) <= 2
    assert abs(columns.mean() + 0.5 - 32) <= 1
    assert abs(rows.mean() + 0.5 - 32) <= 1
    assert (seen.images[0][seen.labels[0] > 0] > 127).mean() > 0.95
    assert seen.images[0].max() == 255
    assert seen.images[0].min() == 0
    # The region ends with the image: 27 columns and 30 rows are left of 40, padded at the right
    assert seen.labels[1].any()
    assert not seen.images[1][:, 60:].any()


def test_no_objects_have_no_close_ups():
    planes = Planes(np.zeros((2, 32, 32), np.uint8), np.zeros((2, 32, 32), np.uint8), ("a", "b"))
    assert len(close_ups(planes, 2.0)) == 0


@pytest.fixture
def scans(tmp_path):
    """Two patients of four slices in Hounsfield units, classes liver and liver tumour."""
    rng = np.random.default_rng(0)
    cases = []
    for patient in "ab":
        for index in range(3, 7):
            labels = np.zeros((20, 24), np.uint8)
            labels[4:16, 4:18] = 1
            labels[6:9, 6:9] = 2 * (index == 4)
            image = rng.integers(-1000, 400, (20, 24)).astype(np.float32)
            cases.append(
                Case(f"{patient}_s{index:04d}", image, labels, group=patient, hounsfield=True)
            )
    parts = {
        part: [case.id for case in cases if case.group == patient]
        for part, patient in (("train", "a"), ("val", "b"))
    }
    path = tmp_path / "scans.h5"
    write_store(
        path, cases, Splits.of(parts), name="scans", classes=("liver", "liver tumour"), licence=""
    )
    return Store.open(path), cases


def test_a_recipe_s_window_is_what_the_planes_show(scans):
    store, cases = scans
    intensity = Intensity((100, 250))
    planes = read_planes([(store, store.splits.train)], 24, intensity)
    for plane, case in zip(planes.images, cases[:4], strict=True):
        expected = np.clip((case.image - (-25)) / 250, 0, 1)  # by hand: 100 - 250 / 2
        np.testing.assert_allclose(plane[:20] / 255, expected, atol=0.5 / 255 + 1e-6)


def test_neighbouring_slices_are_channels_and_the_last_stands_for_itself(scans):
    store, _ = scans
    store.neighbours = True
    planes = read_planes([(store, store.splits.train)], 24, Intensity((0, 2000)))
    assert planes.images.shape == (4, 3, 24, 24)
    alone = planes.images[:, 1]
    np.testing.assert_array_equal(planes.images[1:, 0], alone[:-1])
    np.testing.assert_array_equal(planes.images[:-1, 2], alone[1:])
    np.testing.assert_array_equal(planes.images[0, 0], alone[0])
    np.testing.assert_array_equal(planes.images[3, 2], alone[3])
    assert planes.tensors(np.array([0, 2]))[0].shape == (2, 3, 24, 24)


def test_classes_are_told_apart_by_name_and_unknown_ones_refused(scans):
    store, cases = scans
    split = [(store, store.splits.train)]
    together = read_planes(split, 24)
    assert together.labels.max() == 2 and together.known is None
    apart = read_planes(split, 24, classes=("kidney", "liver", "liver tumour"))
    assert sorted(np.unique(apart.labels)) == [0, 2, 3]
    np.testing.assert_array_equal(apart.labels[1][:20] == 3, cases[1].labels == 2)
    assert apart.known.tolist() == [[False, True, True]] * 4
    with pytest.raises(InputError, match=r"class 'liver tumour', which the recipe does not know"):
        read_planes(split, 24, classes=("liver",))


def test_a_window_without_hounsfield_units_is_refused(tiny_store):
    store = Store.open(tiny_store)
    with pytest.raises(InputError, match=r"no Hounsfield units in '.+', which a window needs"):
        read_planes([(store, store.splits.train)], 24, Intensity((40, 400)))
