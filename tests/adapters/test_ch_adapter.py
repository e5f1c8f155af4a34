"""CH-Adapter: its edges against SciPy, identity at the start, a stem that learns, the paper's sizes."""

import copy

import numpy as np
import pytest
import torch
from scipy import ndimage

from samling.adapters.ch_adapter import SOBEL, CHAdapter, EdgeMap, EdgeStem, edges_of, inject_ch
from samling.adapters.injection import select_sites, use
from samling.errors import InputError

MAGNITUDE, CONCATENATION = "magnitude", "concatenation"
forms = pytest.mark.parametrize("form", [MAGNITUDE, CONCATENATION])


def put(model, form=MAGNITUDE, sites=("conv", "mlp"), placement="parallel", reduction=4):
    chosen, first = select_sites(model.sites, sites), model.sites["block"][0]
    return inject_ch(model, first, chosen, reduction=reduction, form=form, placement=placement)


def filled(injection, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in injection.parameters():
        parameter.data.normal_(0, 0.2, generator=generator)
    return injection


def output(model, images):
    with torch.no_grad():
        return model.encode(images).image


def by_scipy(image):
    """(C, H, W) -> (C, 4, H, W): two directions from SciPy's own Sobel, two from its correlation."""
    return np.stack(
        [
            [
                ndimage.sobel(plane, axis=1, mode="nearest"),
                -ndimage.sobel(plane, axis=0, mode="nearest"),
                ndimage.correlate(plane, SOBEL[2].double().numpy(), mode="nearest"),
                ndimage.correlate(plane, SOBEL[3].double().numpy(), mode="nearest"),
            ]
            for plane in image
        ]
    )


def test_edges_are_those_of_scipy_at_the_same_place_in_the_same_channel():
    image = torch.randn(2, 4, 7, 5)
    steps = np.stack([by_scipy(one) for one in image.double().numpy()])
    flat = edges_of(image, CONCATENATION).permute(0, 3, 1, 2)
    np.testing.assert_allclose(flat, steps.reshape(2, 16, 7, 5), atol=1e-5)
    lengths = edges_of(image, MAGNITUDE).permute(0, 3, 1, 2)
    np.testing.assert_allclose(lengths, np.sqrt((steps**2).sum(2)), atol=1e-5)


def test_the_diagonal_kernels_answer_diagonal_steps():
    """A step across a diagonal moves one diagonal kernel most, and the other not at all."""
    rows, columns = torch.meshgrid(torch.arange(9), torch.arange(9), indexing="ij")
    for step, strong, silent in ((columns > rows, 2, 3), (columns + rows > 8, 3, 2)):
        centre = edges_of(step.float()[None, None], CONCATENATION)[0, 4, 4].abs()
        assert centre.argmax() == strong
        assert centre[silent] == 0


def test_a_flat_image_has_no_edges_not_even_at_its_border_and_a_finite_slope():
    image = torch.full((1, 4, 6, 6), 3.0, requires_grad=True)
    for form in (MAGNITUDE, CONCATENATION):
        edges = edges_of(image, form)
        assert edges.abs().max() < 1e-5
        edges.sum().backward()
        assert torch.isfinite(image.grad).all()


def test_the_adapter_is_its_equation():
    edges = EdgeMap(MAGNITUDE)
    adapter = CHAdapter(12, 3, edges)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    drawn, x = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 4, 12)
    edges.draw(drawn)
    w = {name: value.detach().double().numpy() for name, value in adapter.named_parameters()}
    blocks = drawn.double().numpy().reshape(2, 4, 4, 2, 4, 2).max(axis=(3, 5))  # pooled by 2
    steps = np.stack([by_scipy(one) for one in blocks])
    edge = np.sqrt((steps**2).sum(2)).transpose(0, 2, 3, 1) @ w["edge.weight"].T + w["edge.bias"]
    hidden = torch.from_numpy(x.double().numpy() @ w["down.weight"].T + w["down.bias"])
    context = torch.nn.functional.gelu(hidden).numpy() @ w["up.weight"].T + w["up.bias"]
    np.testing.assert_allclose(adapter(x).detach(), 0.5 * (context + edge), rtol=1e-4, atol=1e-4)


def test_a_grid_that_does_not_fit_and_a_missing_stem_are_named():
    edges = EdgeMap(MAGNITUDE)
    with pytest.raises(ValueError, match="before its edge stem"):
        edges.at(4, 4)
    edges.draw(torch.zeros(1, 4, 8, 8))
    with pytest.raises(ValueError, match=r"\(8, 8\) map .* \(3, 3\) grid"):
        edges.at(3, 3)


@forms
@pytest.mark.parametrize("placement", ["parallel", "serial"])
@pytest.mark.parametrize("sites", [("conv", "mlp"), ("mlp:2",)])
def test_a_new_adapter_changes_nothing_and_leaves_no_trace(
    pristine_sam, small_sam, images, form, placement, sites
):
    before, weights = output(small_sam, images), pristine_sam.state_dict()
    injection = put(small_sam, form, sites, placement)
    assert torch.equal(output(small_sam, images), before)
    filled(injection, 1)
    assert not torch.allclose(output(small_sam, images), before, atol=1e-3)
    injection.eject()
    assert torch.equal(output(small_sam, images), before)
    assert list(small_sam.state_dict()) == list(weights)


@forms
def test_stem_and_adapters_learn_and_nothing_else(small_sam, images, form):
    injection = put(small_sam, form)
    optimizer = torch.optim.Adam(injection.parameters(), lr=0.01)
    for _ in range(2):  # in the first step the zero layers hide the others
        optimizer.zero_grad()
        small_sam.encode(images).image.square().mean().backward()
        optimizer.step()
    stems = [m for m in small_sam.modules() if isinstance(m, EdgeStem)]
    assert len(stems) == 1
    assert stems[0].conv.weight.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.any() for p in injection.parameters())
    own = {id(parameter) for parameter in injection.parameters()}
    assert all(p.grad is None for p in small_sam.parameters() if id(p) not in own)


def test_edges_alone_tell_images_apart(small_sam):
    """With a dead context branch the output still follows the edges of each image of the batch."""
    injection = filled(put(small_sam), 1)
    for name, value in injection.state_dict().items():
        if ".up." in name:
            value.zero_()
    pair = torch.rand(2, 1, 64, 64)
    both = output(small_sam, pair)
    for index in (1, 0):
        alone = output(small_sam, pair[index : index + 1])
        torch.testing.assert_close(both[index : index + 1], alone, rtol=1e-3, atol=1e-4)
    injection.activate(False)
    assert not torch.allclose(output(small_sam, pair), both, atol=1e-3)


def test_a_copy_of_an_adapted_model_is_independent(small_sam, images):
    filled(put(small_sam), 1)
    expected = small_sam.encode(images).image  # with a graph behind the map
    other = copy.deepcopy(small_sam)
    output(small_sam, torch.zeros_like(images))
    torch.testing.assert_close(output(other, images), expected, rtol=1e-3, atol=1e-4)


def test_two_adapters_with_a_stem_each_are_switched_per_call(small_sam, images):
    base, alone = output(small_sam, images), {}
    for name, seed in (("a", 1), ("b", 2)):
        single = copy.deepcopy(small_sam)
        filled(put(single), seed)
        alone[name] = output(single, images)
    injections = {name: filled(put(small_sam), seed) for name, seed in (("a", 1), ("b", 2))}
    for name in ("a", "b", None, "a"):
        use(injections, name)
        assert torch.equal(output(small_sam, images), base if name is None else alone[name])


def test_saved_weights_are_strict_and_give_the_same_outputs(small_sam, images):
    other = copy.deepcopy(small_sam)
    state = filled(put(small_sam), 1).state_dict()
    assert "image_encoder.layers.0.blocks.0.conv.weight" in state
    again = put(other)
    again.load_state_dict(state)
    assert torch.equal(output(other, images), output(small_sam, images))
    with pytest.raises(InputError, match="conv.bias"):
        again.load_state_dict({k: v for k, v in state.items() if not k.endswith("conv.bias")})


def test_the_first_block_itself_is_refused(small_sam):
    with pytest.raises(InputError, match="edge stem"):
        put(small_sam, sites=("block:0",))


@pytest.mark.parametrize(("form", "per_block"), [(MAGNITUDE, 4), (CONCATENATION, 16)])
def test_sizes_on_hiera_large_are_those_of_the_paper_without_its_constants(form, per_block):
    """9.0996 M in the released code: it also counts its Sobel kernels, 4 dense 4x4x3x3 ones a block."""
    edges = EdgeMap(form)
    blocks = ((144, 2), (288, 6), (576, 36), (1152, 4))
    with torch.device("meta"):
        parts = [EdgeStem(144, edges)]
        parts += [CHAdapter(d, d // 4, edges) for d, count in blocks for _ in range(count)]
    learned = sum(p.numel() for part in parts for p in part.parameters())
    more = sum(d * count for d, count in blocks) * (per_block - 4)
    assert learned == 9_071_932 + more
    if form == MAGNITUDE:
        constants = 48 * 4 * 4 * 4 * 3 * 3
        assert learned + constants == 9_099_580  # 9.0996 M
