"""nnU-Net's planning rules against plans that its authors publish."""

import pytest

from samling.models.networks.plan import plan_unet


@pytest.mark.parametrize(("side", "stages"), [(512, 8), (256, 7), (128, 6)])
def test_isotropic_planes(side, stages) -> None:
    plan = plan_unet((side, side), (0.7, 0.7))
    assert len(plan.features) == stages and plan.features[:5] == (32, 64, 128, 256, 512)
    assert plan.strides[0] == (1, 1) and set(plan.strides[1:]) == {(2, 2)}


def test_brain_tumours_in_three_dimensions() -> None:
    assert plan_unet((128, 128, 128), (1, 1, 1)).features == (32, 64, 128, 256, 320, 320)


def test_thick_slices_are_pooled_later() -> None:
    """The prostate of the Medical Segmentation Decathlon, as nnU-Net plans it."""
    plan = plan_unet((20, 320, 256), (3.6, 0.62, 0.62))
    flat, cube = (1, 2, 2), (2, 2, 2)
    assert plan.strides == ((1, 1, 1), flat, flat, cube, cube, flat, flat)
    assert plan.kernels[:3] == ((1, 3, 3), (1, 3, 3), (3, 3, 3))
