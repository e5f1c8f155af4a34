"""Sam: many objects at once equal one by one; sites, presence, gradients, no dead start."""

import pytest
import torch

from samling.models.contract import Embedding, Promptable, PromptTokens
from samling.models.sam import PresenceHead, Sam
from samling.prompts.prompt import Token

SIDE = 64


@pytest.fixture(scope="module")
def sam():
    torch.manual_seed(5)
    model = Sam("light", SIDE).eval()
    for embedding in (model.mask_decoder.iou_token, model.mask_decoder.mask_tokens):
        torch.nn.init.normal_(embedding.weight, std=0.5)
    return model


def tokens(count, objects=3):
    generator = torch.Generator().manual_seed(2)
    coords = torch.rand((count, objects, 2, 2), generator=generator) * SIDE
    labels = torch.tensor([Token.POSITIVE, Token.PADDING]).expand(count, objects, 2).clone()
    labels[:, 0] = torch.tensor([Token.TOP_LEFT, Token.BOTTOM_RIGHT])
    masks = torch.randn((count, objects, SIDE // 4, SIDE // 4), generator=generator) * 5
    return PromptTokens(coords, labels, masks)


@torch.no_grad()
@pytest.mark.parametrize("with_masks", [True, False])
def test_many_objects_of_many_images_are_decoded_as_one_by_one(sam, with_masks):
    embedding = sam.encode(torch.rand(2, 1, SIDE, SIDE))
    prompts = tokens(2)
    if not with_masks:
        prompts = prompts._replace(masks=None)
    together = sam.decode(embedding, prompts)
    assert together.masks.shape == (2, 3, SIDE // 4, SIDE // 4)
    assert together.quality.shape == (2, 3)
    for b in range(2):
        for p in range(3):
            masks = prompts.masks[b : b + 1, p : p + 1] if with_masks else None
            one = PromptTokens(
                prompts.coords[b : b + 1, p : p + 1], prompts.labels[b : b + 1, p : p + 1], masks
            )
            alone = sam.decode(Embedding(embedding.image[b : b + 1], None), one)
            torch.testing.assert_close(
                alone.masks[0, 0], together.masks[b, p], rtol=1e-3, atol=1e-4
            )
            torch.testing.assert_close(
                alone.quality[0, 0], together.quality[b, p], rtol=1e-3, atol=1e-4
            )


@torch.no_grad()
def test_each_object_has_its_mask_or_none(sam):
    embedding = sam.encode(torch.rand(1, 1, SIDE, SIDE))
    prompts = tokens(1)
    given = torch.tensor([[True, False, True]])
    mixed = sam.decode(embedding, prompts._replace(mask_given=given))
    with_masks = sam.decode(embedding, prompts).masks
    without = sam.decode(embedding, prompts._replace(masks=None)).masks
    assert not torch.allclose(with_masks, without, atol=1e-3)
    for index, source in enumerate((with_masks, without, with_masks)):
        torch.testing.assert_close(mixed.masks[:, index], source[:, index], rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_multimask_gives_three_alternatives_prompt_by_prompt(sam):
    embedding = sam.encode(torch.rand(1, 1, SIDE, SIDE))
    prompts = tokens(1, objects=2)
    many = sam.decode(embedding, prompts, multimask=True)
    assert many.masks.shape == (1, 6, 16, 16)
    assert many.quality.shape == (1, 6)
    second = PromptTokens(prompts.coords[:, 1:], prompts.labels[:, 1:], prompts.masks[:, 1:])
    alone = sam.decode(embedding, second, multimask=True)
    torch.testing.assert_close(alone.masks, many.masks[:, 3:], rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_an_untrained_decoder_is_not_degenerate():
    from samling.recipes.build import load_base

    model = load_base("untrained").model
    embedding = Embedding(torch.randn(1, 256, 16, 16), None)
    prompts = PromptTokens(
        torch.tensor([[[[20.0, 30], [90, 100]], [[150, 160], [240, 220]]]]),
        torch.tensor([[[Token.TOP_LEFT, Token.BOTTOM_RIGHT]] * 2]),
    )
    masks = model.decode(embedding, prompts).masks[0]
    assert masks.std() > 1e-3
    assert (masks[0] - masks[1]).abs().max() > 1e-3  # another prompt is another mask


def test_sites_have_the_stated_width_and_layout(sam):
    seen = {}
    handles = [
        sam.get_submodule(site.path).register_forward_hook(
            lambda _m, inputs, out, site=site: seen.update({site: (inputs[0].shape, out.shape)})
        )
        for sites in sam.sites.values()
        for site in sites
    ]
    sam.encode(torch.rand(1, 1, SIDE, SIDE))
    for handle in handles:
        handle.remove()
    assert {kind: len(sites) for kind, sites in sam.sites.items()} == {
        "block": 12,
        "conv": 2,
        "attention": 10,
        "mlp": 10,
    }
    assert len(seen) == 34
    for site, (before, after) in seen.items():
        assert before == after
        assert after[1 if site.channels_first else -1] == site.width


@pytest.mark.parametrize("architecture", ["light", "lean"])
def test_gradients_reach_every_weight(architecture):
    model = Sam(architecture, SIDE)
    embedding = model.encode(torch.rand(2, 1, SIDE, SIDE))
    prompts = tokens(2)
    bare = prompts._replace(masks=None)
    kinds = (Token.AUTOMATIC + torch.arange(4)).expand(2, 1, 4)
    automatic = PromptTokens(torch.zeros(2, 1, 4, 2), kinds)
    outputs = [
        model.decode(embedding, p, multimask=m) for p in (prompts, bare, automatic) for m in (0, 1)
    ]
    negative = bare._replace(labels=torch.full_like(bare.labels, Token.NEGATIVE))
    outputs.append(model.decode(embedding, negative))
    total = sum(out.masks.square().mean() + out.quality.square().mean() for out in outputs)
    (total + embedding.presence.square().mean()).backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


def test_presence_weighs_mean_and_maximum_of_the_evidence():
    head = PresenceHead(2, kinds=2)
    with torch.no_grad():
        head.evidence.weight.copy_(torch.eye(2).view(2, 2, 1, 1))
        head.evidence.bias.fill_(100.0)  # so far up GELU is the identity
        head.linear.weight.copy_(torch.tensor([[1.0, 10.0, 100.0, 1000.0]]))
        head.linear.bias.fill_(0.5)
    embedding = torch.tensor([[[[1.0, 3.0]], [[5.0, 9.0]]]])
    expected = 102 + 10 * 107 + 100 * 103 + 1000 * 109 + 0.5
    torch.testing.assert_close(head(embedding), torch.tensor([expected]))


@torch.no_grad()
def test_skips_start_without_effect_and_then_sharpen():
    torch.manual_seed(0)
    model = Sam("lean", SIDE).eval()
    embedding = model.encode(torch.rand(2, 1, SIDE, SIDE))
    assert [tuple(skip.shape) for skip in embedding.skips] == [(2, 32, 16, 16), (2, 64, 8, 8)]
    prompts = tokens(2)
    bare = model.decode(embedding._replace(skips=()), prompts).masks
    torch.testing.assert_close(model.decode(embedding, prompts).masks, bare)
    for conv in model.skips:
        torch.nn.init.normal_(conv.weight, std=0.5)
    sharper = model.encode(torch.rand(2, 1, SIDE, SIDE))
    together = model.decode(sharper, prompts).masks
    assert (together - model.decode(sharper._replace(skips=()), prompts).masks).abs().max() > 1e-3
    one = PromptTokens(prompts.coords[1:, 2:], prompts.labels[1:, 2:], prompts.masks[1:, 2:])
    alone = model.decode(sharper.rows([1]), one).masks
    torch.testing.assert_close(alone[0, 0], together[1, 2], rtol=1e-3, atol=1e-4)


def test_without_automatic_mode_there_is_no_presence():
    model = Sam("light", SIDE, automatic=False)
    assert model.encode(torch.rand(1, 1, SIDE, SIDE)).presence is None
    assert isinstance(model, Promptable)
    assert model.module is model
