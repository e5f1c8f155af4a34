"""Grids: what is turned comes back, and says where it is."""

import numpy as np
import pytest

from samling.data.volume import Grid, Volume, smallest_type


def affine_of(angles, spacing, flips, order) -> np.ndarray:
    """A turned, flipped, anisotropic grid."""
    turn = np.eye(3)
    for axis, angle in enumerate(np.radians(angles)):
        one = np.eye(3)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        one[a, a] = one[b, b] = np.cos(angle)
        one[a, b], one[b, a] = -np.sin(angle), np.sin(angle)
        turn = turn @ one
    affine = np.eye(4)
    affine[:3, :3] = (turn * spacing * np.where(flips, -1, 1))[:, order]
    affine[:3, 3] = (-3, 7.5, 11)
    return affine


@pytest.mark.parametrize("seed", range(20))
def test_the_view_is_axial_and_leads_back(seed) -> None:
    rng = np.random.default_rng(seed)
    angles, spacing = rng.uniform(-180, 180, 3), rng.uniform(0.3, 5, 3)
    flips, order = rng.random(3) < 0.5, rng.permutation(3)
    affine = affine_of(angles, spacing, flips, order)
    shape = (2, 3, 4)
    grid = Grid.axial(shape, affine)
    array = np.arange(24).reshape(shape)
    view = grid.view(array)
    np.testing.assert_array_equal(grid.restore(view), array)
    # every voxel lies where it lay, whatever the order it is looked at
    for index in ((0, 0, 0), (1, 1, 1), tuple(n - 1 for n in view.shape)):
        file_index = np.argwhere(array == view[index])[0]
        np.testing.assert_allclose(
            grid.view_affine @ [*index, 1], affine @ [*file_index, 1], atol=1e-9
        )


def test_slices_run_to_the_head_rows_to_the_back_columns_to_the_left() -> None:
    # a coronal file, columns to the right: x = -i, y = 3k, z = -2j
    affine = np.array([[-1, 0, 0, 0], [0, 0, 3, 0], [0, -2, 0, 0], [0, 0, 0, 1.0]])
    steps = Grid.axial((5, 6, 7), affine).view_affine[:3, :3]
    np.testing.assert_array_equal(steps, [[0, 0, 1], [0, 3, 0], [2, 0, 0]])


def test_a_sheared_voxel_has_the_volume_of_its_parallelepiped(tmp_path) -> None:
    affine = np.diag([0.5, 0.5, 4.0, 1])
    affine[1, 2] = 1.0  # a tilt moves every slice, and changes no volume
    volume = Volume(np.zeros((2, 3, 4), np.int16), Grid((4, 3, 2), affine), tmp_path)
    assert volume.voxel_ml == pytest.approx(0.001)
    assert volume.spacing_mm == pytest.approx((np.sqrt(17), 0.5, 0.5))


def test_whole_numbers_become_sixteen_bits_and_nothing_is_lost() -> None:
    whole, wide = np.array([[[-1000.0, 3071.0]]]), np.array([[[0, 40_000]]])
    assert smallest_type(whole).dtype == np.int16
    assert smallest_type(wide).dtype == np.float32 and smallest_type(wide).max() == 40_000
    assert smallest_type(np.array([[[0.5]]])).dtype == np.float32
