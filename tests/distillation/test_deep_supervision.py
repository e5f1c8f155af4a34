"""DSKD: both losses by hand, taps without a trace, and a mini Hiera that learns from another."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from samling.adapters.ch_adapter import CHAdapter, inject_ch
from samling.adapters.injection import select_sites
from samling.distillation.deep_supervision import (
    Level,
    pyramid_terms,
    split_level,
    split_terms,
    tap,
)
from samling.models.hiera import HIERAS, Hiera

SIDE = 64
LAST = (0, 2, 9)
"""The last block of the three finest stages of the mini encoder."""


def test_the_released_loss_is_the_sum_of_mean_squared_errors():
    student = [torch.randn(2, 3, s, s) for s in (8, 4)]
    teacher = [torch.randn(2, 3, s, s) for s in (8, 4)]
    terms = pyramid_terms(student, teacher)
    wanted = [np.mean((s.numpy() - t.numpy()) ** 2) for s, t in zip(student, teacher, strict=True)]
    assert terms["level0"].item() == pytest.approx(wanted[0], rel=1e-5)
    assert terms["level1"].item() == pytest.approx(wanted[1], rel=1e-5)
    assert terms["total"].item() == pytest.approx(sum(wanted), rel=1e-5)
    assert pyramid_terms(teacher, teacher)["total"] == 0


def test_the_drawn_loss_names_its_three_parts():
    levels = [[Level(*torch.randn(3, 1, 2, s, s)) for s in (4, 2)] for _ in range(2)]
    terms = split_terms(*levels)
    for k, name in enumerate(("block", "adapter", "together")):
        wanted = sum(
            np.mean((s[k].numpy() - t[k].numpy()) ** 2) for s, t in zip(*levels, strict=True)
        )
        assert terms[name].item() == pytest.approx(wanted, rel=1e-5)
    assert terms["total"].item() == pytest.approx(
        sum(terms[name].item() for name in Level._fields), rel=1e-5
    )


def test_levels_that_do_not_match_are_refused():
    one, other = [torch.zeros(1, 2, 4, 4)], [torch.zeros(1, 2, 2, 2)]
    with pytest.raises(ValueError, match="differ in shape"):
        pyramid_terms(one, other)
    with pytest.raises(ValueError, match="shorter|longer"):
        pyramid_terms(one, one * 2)


def test_the_teacher_gets_no_gradient():
    student, teacher = (torch.randn(1, 2, 4, 4, requires_grad=True) for _ in range(2))
    pyramid_terms([student], [teacher])["total"].backward()
    assert student.grad is not None
    assert teacher.grad is None


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


def names():
    """Taps: of each level its last block, and the adapter in it. Block 0 sits within the stem's wrapper."""
    blocks = [f"backbone.blocks.{i}" for i in LAST]
    inner = ["backbone.blocks.0.target", *blocks[1:]]
    return blocks, [f"{path}.mlp.adapter" for path in inner]


def levels(model, images):
    blocks, adapters = names()
    with tap(model, [*blocks, *adapters]) as seen:
        model.pyramid(images)
    necks = [model.neck.convs[3 - k] for k in range(3)]
    return [
        split_level(seen[block], seen[adapter], neck)
        for block, adapter, neck in zip(blocks, adapters, necks, strict=True)
    ]


@torch.no_grad()
def test_taps_split_a_level_without_a_trace():
    model, injection = adapted(0)
    for parameter in injection.parameters():
        parameter.normal_(0, 0.2)
    images = torch.rand(1, 3, SIDE, SIDE)
    before = model.pyramid(images)
    found = levels(model, images)
    assert all(isinstance(model.get_submodule(name), CHAdapter) for name in names()[1])
    assert not any(module._forward_hooks for module in model.modules())
    for level, whole in zip(found[:2], before[:2], strict=True):
        torch.testing.assert_close(level.together, whole)
        bias = level.block + level.adapter - level.together  # the neck's bias, counted twice
        torch.testing.assert_close(bias, bias[..., :1, :1].expand_as(bias), atol=1e-4, rtol=1e-3)
        assert level.adapter.std() > 0


@pytest.mark.parametrize("form", ["released", "drawn"])
def test_a_mini_hiera_with_adapters_learns_from_its_teacher(form):
    (teacher, filled), (student, _) = adapted(0), adapted(1)
    for parameter in filled.parameters():
        parameter.data.normal_(0, 0.1)
    images = torch.rand(2, 3, SIDE, SIDE)
    if form == "released":
        with torch.no_grad():
            wanted = teacher.pyramid(images)
        loss = lambda: pyramid_terms(student.pyramid(images), wanted)["total"]  # noqa: E731
    else:
        with torch.no_grad():
            wanted = levels(teacher, images)
        loss = lambda: split_terms(levels(student, images), wanted)["total"]  # noqa: E731
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    first = loss().item()
    for _ in range(15):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
    assert value.item() < 0.6 * first
