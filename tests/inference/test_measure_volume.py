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


def test_nothing_found():
    rows = measure_volume(np.zeros((2, 3, 3), np.uint8), CLASSES, (1, 1, 1), 0.001)
    assert [(row.volume_ml, row.parts, row.slices) for row in rows] == [(0, 0, None)] * 2
