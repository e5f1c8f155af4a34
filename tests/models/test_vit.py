"""SAM's ViT: its sites, and CH-Adapters on them."""

import pytest
import torch

from samling.adapters.ch_adapter import inject_ch
from samling.adapters.injection import select_sites
from samling.models.architectures import ARCHITECTURES, Architecture
from samling.models.sam import Sam
from samling.models.vit import VitShape


@pytest.fixture(params=[True, False], ids=["plain", "gated"])
def vit(request, monkeypatch):
    """SAM's ViT in small, and with SAM-Med2D's adapters."""
    shape = VitShape(32, 4, 4, gated=not request.param)
    monkeypatch.setitem(ARCHITECTURES, "vit-test", Architecture(shape, normalised=True))
    torch.manual_seed(2)
    return Sam("vit-test", 64).eval()


def test_sites_have_the_stated_width(vit):
    seen = {}
    for site in (*vit.sites["block"], *vit.sites["mlp"]):
        vit.get_submodule(site.path).register_forward_hook(
            lambda _m, inputs, out, site=site: seen.update({site: (inputs[0].shape, out.shape)})
        )
    vit.encode(torch.rand(1, 1, 64, 64))
    assert len(seen) == 8
    assert all(before == after == (1, 4, 4, site.width) for site, (before, after) in seen.items())
    assert [site.stage for site in vit.sites["mlp"]] == [0, 1, 2, 3]


def test_ch_adapters_start_as_nothing_and_learn_with_their_stem(vit):
    vit.requires_grad_(False)
    image = torch.rand(1, 1, 64, 64)
    before, keys = vit.encode(image).image, list(vit.state_dict())
    first, sites = vit.sites["block"][0], select_sites(vit.sites, ("mlp",))
    injection = inject_ch(vit, first, sites, reduction=4, form="magnitude", placement="parallel")
    with torch.no_grad():  # as before: gradients choose another attention kernel
        assert torch.equal(vit.encode(image).image, before)
    optimizer = torch.optim.Adam(injection.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        (vit.encode(image).image * torch.randn_like(before)).sum().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.any() for p in injection.parameters())
    injection.eject()
    assert list(vit.state_dict()) == keys
    torch.testing.assert_close(vit.encode(image).image, before)


def test_every_last_block_of_a_quarter_sees_all():
    assert VitShape(1, 24, 1).global_blocks() == [5, 11, 17, 23]
    assert VitShape(1, 32, 1).global_blocks() == [7, 15, 23, 31]
    assert VitShape(1, 3, 1, windowed=False).global_blocks() == [0, 1, 2]
