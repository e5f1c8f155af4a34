"""Deep supervision: widths, the grid, and the loss by hand."""

import pytest
import torch
from torch.nn import functional as F

from samling.distillation.deep import Projections, join, level_term


def test_levels_are_joined_on_one_grid():
    fine, coarse = torch.rand(2, 3, 8, 8), torch.rand(2, 5, 2, 2)
    joined = join([fine, coarse], 4)
    assert joined.shape == (2, 8, 4, 4)
    torch.testing.assert_close(joined[:, :3], F.avg_pool2d(fine, 2))


def test_a_projection_leads_from_the_students_width_to_the_teachers():
    projections = Projections((2, 3), (4, 6))
    out = projections([torch.rand(1, 2, 8, 8), torch.rand(1, 3, 4, 4)], 4)
    assert out.shape == (1, 10, 4, 4)
    with pytest.raises(ValueError, match="zip"):
        Projections((2, 3), (4,))


def test_the_term_is_error_over_variance_summed_over_levels():
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn((2, 5, 4, 4), generator=generator)
    teacher[:, 2:] *= 100  # another scale, the same weight
    student = teacher.clone()
    student[:, :2] += 0.1
    student[:, 2:] += 10
    by_hand = 0.01 / teacher[:, :2].var() + 100 / teacher[:, 2:].var()
    torch.testing.assert_close(level_term(student, teacher, (2, 3)), by_hand)
    assert level_term(teacher, teacher, (2, 3)) == 0
