"""Deep supervision: the grid, the loss by hand, pairs of levels, taps without a trace."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from samling.adapters.ch_adapter import CHAdapter, inject_ch
from samling.adapters.injection import select_sites
from samling.distillation.deep_supervision import (
    Projections,
    join,
    level_term,
    paired_levels,
    split_level,
    tap,
)
from samling.models.hiera import HIERAS, Hiera

SIDE = 64


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


def test_levels_are_paired_one_by_one_or_by_stride():
    assert paired_levels((4, 8, 16, 16), (1, 2, 4, 4)) == [0, 1, 2, 3]
    assert paired_levels((4, 8), (4, 8, 16, 16)) == [0, 1]
    assert paired_levels((8, 16), (4, 8, 16, 16)) == [1, 3]
    assert paired_levels((2, 8), (4, 8, 16, 16)) is None
    assert paired_levels((), ()) is None
    assert paired_levels((), (4,)) is None


def test_a_level_is_divided_behind_its_neck():
    together, adapter = torch.rand(2, 1, 3, 4, 4)
    neck = nn.Conv2d(3, 5, 1, bias=False)
    block, alone, both = split_level(together, adapter, neck)
    torch.testing.assert_close(block + alone, both)
    torch.testing.assert_close(both, neck(together))
    torch.testing.assert_close(alone, neck(adapter))


def adapted(seed):
    torch.manual_seed(seed)
    model = Hiera(HIERAS["hiera-mini"])
    # The encoder alone: its sites without the name it has inside `Sam`
    fixed = {
        kind: [replace(site, path=site.path.removeprefix("x.")) for site in found]
        for kind, found in model.sites("x").items()
    }
    injection = inject_ch(
        model, fixed["block"][0], select_sites(fixed, ("mlp",)),
        reduction=4, form="magnitude", placement="parallel",
    )  # fmt: skip
    return model, injection


@torch.no_grad()
def test_taps_see_blocks_and_adapters_and_leave_no_trace():
    model, injection = adapted(0)
    for parameter in injection.parameters():
        parameter.normal_(0, 0.2)
    images = torch.rand(1, 3, SIDE, SIDE)
    before = model.pyramid(images)
    modules = {"block": model.backbone.blocks[2], "adapter": model.backbone.blocks[2].mlp.adapter}
    assert isinstance(modules["adapter"], CHAdapter)
    with tap(modules) as seen:
        model.pyramid(images)
    assert not any(module._forward_hooks for module in model.modules())
    assert seen["adapter"].std() > 0
    neck = model.lateral(1)  # block 2 is the last one of the level of stride 8
    torch.testing.assert_close(neck(seen["block"].permute(0, 3, 1, 2)), before[1])
