"""Injection: identity at the start, ejection without a trace, switching, strict loading, exact sizes."""

import copy

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from samling.adapters.bottleneck import LRAdapter, SerialAdapter
from samling.adapters.injection import Adapted, inject, save_adapter, select_sites, use
from samling.errors import InputError

KINDS = {
    "lr": lambda d: LRAdapter(d, d // 8, 4),
    "tied": lambda d: LRAdapter(d, d // 8, 4, tied=True),
    "serial": lambda d: SerialAdapter(d, d // 8),
}
SITES = {
    "conv+mlp": ("conv", "mlp"),
    "attention+block:0": ("attention", "block:0"),
    "block": ("block",),
    "nested": ("block", "conv", "attention", "mlp"),
}
TABLE = [(k, s, p) for k in KINDS for s in SITES for p in ("parallel", "serial")]
table = pytest.mark.parametrize(("kind", "sites", "placement"), TABLE)


def put(model, kind, sites, placement):
    return inject(model, select_sites(model.sites, SITES[sites]), KINDS[kind], placement)


def filled(injection, seed):
    """The same injection with weights that change the output."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in injection.parameters():
        parameter.data.normal_(0, 0.2, generator=generator)
    return injection


def output(model, images):
    with torch.no_grad():
        return model.encode(images).image


@table
def test_a_new_adapter_changes_nothing_and_leaves_no_trace(
    pristine_sam, small_sam, images, kind, sites, placement
):
    before, weights = output(small_sam, images), pristine_sam.state_dict()
    injection = put(small_sam, kind, sites, placement)
    assert torch.equal(output(small_sam, images), before)
    filled(injection, 1)
    assert not torch.equal(output(small_sam, images), before)
    injection.eject()
    assert torch.equal(output(small_sam, images), before)
    state = small_sam.state_dict()
    assert list(state) == list(weights)
    assert all(torch.equal(value, weights[key]) for key, value in state.items())
    assert not any(isinstance(module, Adapted) for module in small_sam.modules())


@table
def test_all_adapter_weights_learn_and_nothing_else(small_sam, images, kind, sites, placement):
    injection = put(small_sam, kind, sites, placement)
    optimizer = torch.optim.Adam(injection.parameters(), lr=0.01)
    for _ in range(2):  # in the first step the zero factor hides the others
        optimizer.zero_grad()
        small_sam.encode(images).image.square().mean().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in injection.parameters())
    own = {id(parameter) for parameter in injection.parameters()}
    assert all(p.grad is None for p in small_sam.parameters() if id(p) not in own)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_weights_give_the_same_outputs(small_sam, images, tmp_path, kind):
    other = copy.deepcopy(small_sam)
    first = filled(put(small_sam, kind, "nested", "parallel"), 1)
    save_adapter(tmp_path / "a.safetensors", first.state_dict())
    second = put(other, kind, "nested", "parallel")
    second.load_state_dict(load_file(tmp_path / "a.safetensors"))
    assert torch.equal(output(other, images), output(small_sam, images))


@pytest.mark.parametrize("placement", ["parallel", "serial"])
def test_two_adapters_share_one_base_and_are_switched_per_call(small_sam, images, placement):
    base = output(small_sam, images)
    alone = {}
    for name, seed in (("a", 1), ("b", 2)):
        single = copy.deepcopy(small_sam)
        filled(put(single, "lr", "nested", placement), seed)
        alone[name] = output(single, images)
    injections = {
        name: filled(put(small_sam, "lr", "nested", placement), seed)
        for name, seed in (("a", 1), ("b", 2))
    }
    for name in ("a", "b", None, "b", "a"):
        use(injections, name)
        assert torch.equal(output(small_sam, images), base if name is None else alone[name])
    injections["b"].eject()
    use(injections, "a")
    assert torch.equal(output(small_sam, images), alone["a"])


def test_eject_refuses_while_a_later_injection_is_on_top_and_changes_nothing(small_sam, images):
    base = output(small_sam, images)
    first = put(small_sam, "lr", "attention+block:0", "parallel")
    sites = select_sites(small_sam.sites, ("attention",))[-1:]
    second = filled(inject(small_sam, sites, KINDS["lr"], "parallel"), 1)
    both = output(small_sam, images)
    with pytest.raises(ValueError, match="eject the later injection first"):
        first.eject()
    assert torch.equal(output(small_sam, images), both)
    second.eject()
    first.eject()
    assert torch.equal(output(small_sam, images), base)


@pytest.mark.parametrize("placement", ["parallel", "serial"])
@pytest.mark.parametrize("channels_first", [False, True])
def test_placements_are_their_equations(placement, channels_first):
    target = nn.Conv2d(8, 8, 1) if channels_first else nn.Linear(8, 8)
    adapter = SerialAdapter(8, 2)
    nn.init.normal_(adapter.up.weight)
    wrapped = Adapted(target, adapter, placement, channels_first=channels_first)
    x = torch.randn((2, 8, 5, 3) if channels_first else (2, 5, 3, 8))
    y = target(x)
    source = x if placement == "parallel" else y
    if channels_first:
        expected = torch.stack(
            [adapter(source[..., i, :].transpose(1, 2)).transpose(1, 2) for i in range(5)], dim=2
        )
    else:
        expected = adapter(source)
    torch.testing.assert_close(wrapped(x), y + expected)


@pytest.mark.parametrize("rank", [4, 8, 16, 32])
@pytest.mark.parametrize("sites", [("conv", "mlp"), ("block",)])
def test_one_untied_adapter_in_each_block_has_the_size_of_table_2(small_sam, rank, sites):
    chosen = select_sites(small_sam.sites, sites)
    assert len(chosen) == 12
    injection = inject(small_sam, chosen, lambda d: LRAdapter(d, d // 8, rank), "parallel")
    assert sum(p.numel() for p in injection.parameters()) == 4464 * rank


@pytest.mark.parametrize("rank", [4, 16])
def test_two_tied_adapters_in_each_block_have_the_size_of_table_2_and_their_gates(small_sam, rank):
    chosen = select_sites(small_sam.sites, ("attention", "mlp", "conv", "block:0"))
    assert len(chosen) == 24
    make = lambda d: LRAdapter(d, d // 8, rank, tied=True)  # noqa: E731
    injection = inject(small_sam, chosen, make, "parallel")
    assert sum(p.numel() for p in injection.parameters()) == 4464 * rank + 24


def test_two_plain_adapters_in_each_block_have_199680_weights(small_sam):
    chosen = select_sites(small_sam.sites, ("attention", "mlp", "conv", "block:0"))
    injection = inject(small_sam, chosen, KINDS["serial"], "serial")
    assert sum(p.numel() for p in injection.parameters()) == 199_680


def test_adapters_follow_the_model_to_its_device(small_sam):
    small_sam.to("meta")
    injection = put(small_sam, "lr", "nested", "parallel")
    assert {parameter.device.type for parameter in injection.parameters()} == {"meta"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state.pop(next(iter(state))), "attn"),
        (lambda state: state.update(surplus=torch.zeros(1)), "surplus"),
        (lambda state: state.update({next(iter(state)): torch.zeros(3, 3)}), "v_down"),
    ],
)
def test_loading_is_strict_and_changes_nothing(small_sam, change, named):
    injection = put(small_sam, "lr", "attention+block:0", "parallel")
    before = {key: value.clone() for key, value in injection.state_dict().items()}
    state = {key: value + 1 for key, value in before.items()}
    change(state)
    with pytest.raises(InputError, match=named):
        injection.load_state_dict(state, "a.safetensors")
    after = injection.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


@pytest.mark.parametrize("name", ["head", "attention:0", "mlp:9", ""])
def test_unknown_sites_are_refused_with_the_known_ones(small_sam, name):
    with pytest.raises(InputError, match=r"attention.*\[1, 2, 3\]"):
        select_sites(small_sam.sites, [name])


def test_a_site_named_twice_is_refused(small_sam):
    with pytest.raises(InputError, match="conv:0: names a site twice"):
        select_sites(small_sam.sites, ["conv", "conv:0"])
    [site, *_] = small_sam.sites["mlp"]
    with pytest.raises(ValueError, match="named twice"):
        inject(small_sam, [site, site], KINDS["lr"], "parallel")
