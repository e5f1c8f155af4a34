"""Volumes measured by hand: blocks, whose sizes are known."""

import numpy as np
import pytest

from samling.inference.measure_volume import measure_volume

CLASSES = ("liver", "tumour")


def test_blocks_by_hand():
    labels = np.zeros((10, 40, 40), np.uint8)
    labels[1:9, 5:35, 5:35] = 1
    labels[2:4, 10:13, 10:14] = 2  # 24 voxels
    labels[6, 20:22, 20:22] = 2  # 4 voxels
    liver, tumour, first, second = measure_volume(labels, CLASSES, (3.0, 0.5, 0.5), 0.00075)
    assert liver.volume_ml == pytest.approx((8 * 900 - 28) * 0.00075) and liver.parts == 1
    assert (tumour.volume_ml, tumour.parts) == (pytest.approx(28 * 0.00075), 2)
    assert tumour.share_percent == pytest.approx(100 * 28 / 7200)
    assert tumour.slices == (2, 6) and (first.slices, second.slices) == ((2, 3), (6, 6))
    assert (first.part, first.volume_ml) == (1, pytest.approx(24 * 0.00075))
    # 3 x 4 pixels: from the middle of a side to the middle of the opposite one, in either direction
    assert first.longest_diameter_mm == pytest.approx(0.5 * np.hypot(2, 4))
    assert tumour.longest_diameter_mm == first.longest_diameter_mm


def test_specks_share_a_row_and_volumes_add_up():
    labels = np.zeros((12, 60, 60), np.uint8)
    labels[2:8, 10:40, 10:40] = 1  # 5400 voxels
    labels[9, 50:53, 50:52] = 1  # 6: above one of the two limits
    for place in range(20):
        labels[10 + place % 2, 2 * place, 0] = 1
    voxel_ml = 0.002
    whole, first, second, smaller = measure_volume(labels, ("liver",), (2, 1, 1), voxel_ml)
    assert [row.part for row in (whole, first, second, smaller)] == [None, 1, 2, "smaller"]
    assert (whole.parts, smaller.parts, smaller.slices) == (22, 20, (10, 11))
    assert smaller.longest_diameter_mm is None
    listed = first.volume_ml + second.volume_ml + smaller.volume_ml
    assert whole.volume_ml == pytest.approx(listed) == pytest.approx(5426 * voxel_ml)
    assert first.share_percent + second.share_percent + smaller.share_percent == pytest.approx(100)


def test_a_class_of_few_small_parts_lists_them_and_one_of_very_many_does_not():
    few, many = np.zeros((2, 1, 80, 80), np.uint8)
    few[0, 0, :20:2] = 2
    many[0, ::2, ::2] = 2  # 1600 single voxels
    assert [row.part for row in measure_volume(few, CLASSES, (1, 1, 1), 0.001)] == [
        None, None, *range(1, 11),
    ]  # fmt: skip
    _, tumour, smaller = measure_volume(many, CLASSES, (1, 1, 1), 0.001)
    assert smaller.parts == tumour.parts == 1600 and smaller.volume_ml == tumour.volume_ml
    *_, last, rest = measure_volume(many, CLASSES, (1, 1, 1), 0.1)  # lesions, more than are listed
    assert (last.part, rest.part, rest.parts) == (200, "smaller", 1400)


def test_nothing_found():
    rows = measure_volume(np.zeros((2, 3, 3), np.uint8), CLASSES, (1, 1, 1), 0.001)
    assert [(row.volume_ml, row.parts, row.slices) for row in rows] == [(0, 0, None)] * 2
