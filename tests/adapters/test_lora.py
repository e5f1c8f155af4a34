"""LoRA: identity at the start, the update by hand, ejection without a trace, merging, every family."""

import copy

import pytest
import torch
from torch import nn

from samling.adapters.bottleneck import SerialAdapter
from samling.adapters.injection import inject, select_sites, use
from samling.adapters.lora import inject_lora, merge_lora
from samling.errors import InputError
from samling.models.sam import Sam

SITES = ("block", "mlp")
QKV = "image_encoder.layers.1.blocks.0.attn.qkv"


def put(model, rank=4):
    return inject_lora(model, select_sites(model.sites, SITES), rank=rank)


def filled(injection, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in injection.parameters():
        parameter.data.normal_(0, 0.1, generator=generator)
    return injection


def output(model, images):
    with torch.no_grad():
        return model.levels(images.expand(-1, 1, -1, -1))[-1]


def kinds(model):
    return {type(module) for module in model.modules()}


def test_new_factors_change_nothing_and_leave_no_trace(pristine_sam, small_sam, images):
    before, weights = output(small_sam, images), pristine_sam.state_dict()
    injection = put(small_sam)
    assert torch.equal(output(small_sam, images), before)
    filled(injection, 1)
    assert not torch.allclose(output(small_sam, images), before)
    injection.activate(False)
    assert torch.equal(output(small_sam, images), before)
    injection.eject()
    state = small_sam.state_dict()
    assert list(state) == list(weights)
    assert all(torch.equal(value, weights[key]) for key, value in state.items())
    assert kinds(small_sam) == kinds(pristine_sam)


def test_every_linear_layer_of_the_blocks_gets_an_update_and_nothing_else(small_sam):
    wanted = {
        name
        for name, module in small_sam.image_encoder.named_modules()
        if isinstance(module, nn.Linear) and ".blocks." in name
    }
    widths = dict(small_sam.image_encoder.named_modules())
    sizes = {name: widths[name].weight.shape for name in wanted}
    injection = put(small_sam, rank=3)
    assert {path.removeprefix("image_encoder.") for path in injection.layers} == wanted
    count = sum(p.numel() for p in injection.parameters())
    assert count == sum(3 * (rows + columns) for rows, columns in sizes.values())
    learning = {id(p) for p in small_sam.parameters() if p.requires_grad}
    assert learning == {id(p) for p in injection.parameters()}


def test_a_layer_computes_the_formula(small_sam):
    injection = filled(put(small_sam), 2)
    layer, state = injection.layers[QKV], injection.state_dict()
    x = torch.randn(5, layer.base_layer.in_features)
    plain = x @ layer.base_layer.weight.T + layer.base_layer.bias
    update = x @ state[f"{QKV}.down"].T @ state[f"{QKV}.up"].T
    torch.testing.assert_close(layer(x), plain + update, atol=1e-5, rtol=1e-5)


def test_merged_weights_compute_the_same_without_peft(pristine_sam, small_sam, images):
    filled(put(small_sam), 3)
    wanted = output(small_sam, images)
    merge_lora(small_sam)
    torch.testing.assert_close(output(small_sam, images), wanted, atol=2e-4, rtol=1e-4)
    assert kinds(small_sam) == kinds(pristine_sam)
    assert list(small_sam.state_dict()) == list(pristine_sam.state_dict())


def test_it_shares_a_base_with_other_adapters(small_sam, pristine_sam, images):
    alone = {}
    for name, seed in (("a", 4), ("b", 5)):
        own = copy.deepcopy(pristine_sam)
        filled(put(own), seed)
        alone[name] = output(own, images)
    serial = inject(
        small_sam, select_sites(small_sam.sites, ("mlp",)), lambda d: SerialAdapter(d, 8), "serial"
    )
    filled(serial, 6)
    sets = {"serial": serial, "a": filled(put(small_sam), 4), "b": filled(put(small_sam), 5)}
    for name in ("b", "a", "b"):
        use(sets, name)
        assert torch.equal(output(small_sam, images), alone[name])
    use(sets, None)
    assert torch.equal(output(small_sam, images), output(pristine_sam, images))


@pytest.mark.parametrize("family", ["sam2-hiera-mini", "efficientsam-ti", "sam-vit-b"])
def test_other_encoders_take_it_too(family):
    torch.manual_seed(0)
    model = Sam(family, 64).eval().requires_grad_(False)
    if family == "sam-vit-b":
        model.image_encoder.layers = model.image_encoder.layers[:1]
        model.image_encoder.shape = model.image_encoder.shape.__class__(768, 1, 12)
    images = torch.rand(1, 1, 64, 64)
    before = output(model, images)
    injection = put(model)
    assert torch.equal(output(model, images), before)
    filled(injection, 1)
    assert not torch.allclose(output(model, images), before)
    reloaded = {key: value.clone() for key, value in injection.state_dict().items()}
    filled(injection, 2)
    injection.load_state_dict(reloaded)
    own = injection.state_dict()
    assert all(torch.equal(own[key], value) for key, value in reloaded.items())


def test_what_cannot_be_is_refused(small_sam):
    with pytest.raises(InputError, match="no linear layer"):
        inject_lora(small_sam, select_sites(small_sam.sites, ("conv",)), rank=2)
    injection = put(small_sam)
    with pytest.raises(InputError, match="do not fit"):
        injection.load_state_dict({"a.down": torch.zeros(1)})
