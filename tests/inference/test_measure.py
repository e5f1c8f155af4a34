import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from scipy.spatial.distance import pdist
from skimage.measure import regionprops

from samling.inference.measure import measure

masks = nps.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))
spacings = st.tuples(st.floats(0.05, 3), st.floats(0.05, 3))


def brute_force_diameter(mask, row_mm, column_mm):
    """All pairs of the four side middles of all pixels: no hull, no shortcut."""
    middles = [
        ((x + dx) * column_mm, (y + dy) * row_mm)
        for y, x in np.argwhere(mask)
        for dx, dy in ((-0.5, 0), (0.5, 0), (0, -0.5), (0, 0.5))
    ]
    return pdist(np.array(middles)).max() if middles else 0.0


@given(masks, spacings)
def test_the_longest_diameter_is_that_of_all_pairs(mask, spacing):
    found = measure(mask, spacing)
    assert found.longest_diameter_px == pytest.approx(brute_force_diameter(mask, 1, 1))
    assert found.longest_diameter_mm == pytest.approx(brute_force_diameter(mask, *spacing))
    assert found.area_px == sum(map(sum, mask.tolist()))
    assert found.area_mm2 == pytest.approx(found.area_px * spacing[0] * spacing[1])


def test_known_shapes():
    row = np.zeros((3, 20), dtype=bool)
    row[1, 4:14] = True
    assert measure(row).longest_diameter_px == 10
    assert measure(row, (0.1, 0.1)).longest_diameter_mm == pytest.approx(1.0)
    assert measure(row).longest_diameter_mm is None
    assert measure(row).box == (4, 1, 14, 2)
    y, x = np.mgrid[:201, :201]
    disc = np.hypot(y - 100, x - 100) <= 80
    assert measure(disc).longest_diameter_px == pytest.approx(161, abs=0.7)


def test_it_agrees_with_scikit_image_on_a_convex_shape():
    y, x = np.mgrid[:120, :150]
    ellipse = ((x - 70) / 60) ** 2 + ((y - 60) / 25) ** 2 <= 1
    reference = regionprops(ellipse.astype(int))[0].feret_diameter_max
    assert measure(ellipse).longest_diameter_px == pytest.approx(reference, abs=0.1)


def test_an_empty_mask_has_no_extent():
    found = measure(np.zeros((5, 5), dtype=bool), (1.0, 1.0))
    assert (found.area_px, found.longest_diameter_mm, found.box) == (0, 0.0, None)
