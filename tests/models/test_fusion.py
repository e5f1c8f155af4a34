"""New layers of a base: they change nothing until they learn, and then only what they are for."""

import pytest
import torch

from samling.models import vit
from samling.models.architectures import ARCHITECTURES, Architecture
from samling.models.contract import PromptTokens
from samling.models.fusion import Fusion
from samling.models.sam import Sam
from samling.prompts.prompt import AUTOMATIC_TOKENS, Token

SIDE = 64


def made(name: str) -> Sam:
    torch.manual_seed(3)
    model = Sam(name, SIDE).eval()
    for embedding in (model.mask_decoder.iou_token, model.mask_decoder.mask_tokens):
        torch.nn.init.normal_(embedding.weight, std=0.5)
    return model


@pytest.fixture(params=["lean", "full", "toy-vit"])
def model(request, monkeypatch):
    toy = Architecture(vit.VitShape(32, 4, 2), normalised=True)
    monkeypatch.setitem(ARCHITECTURES, "toy-vit", toy)
    return made(request.param)


def automatic(classes: int) -> PromptTokens:
    kinds = torch.arange(AUTOMATIC_TOKENS * classes) + Token.AUTOMATIC
    labels = kinds.view(1, classes, AUTOMATIC_TOKENS)
    return PromptTokens(torch.zeros(*labels.shape, 2), labels)


def box() -> PromptTokens:
    coords = torch.tensor([[[[10.0, 12.0], [40.0, 50.0]]]])
    return PromptTokens(coords, torch.tensor([[[Token.TOP_LEFT, Token.BOTTOM_RIGHT]]]))


@torch.no_grad()
def test_new_layers_change_nothing_at_first(model):
    image = torch.rand(1, 1, SIDE, SIDE)
    before = model.encode(image)
    wanted, boxed = model.decode(before, automatic(1)), model.decode(before, box())
    model.extend(classes=2, fusion=True, anatomy=True)
    after = model.encode(image)
    side = model.embedding_size
    assert [skip.shape[-1] for skip in after.skips] == [4 * side, 2 * side]
    assert after.presence.shape == (1, 2)
    torch.testing.assert_close(after.presence, before.presence.view(1, 1).expand(1, 2))
    masks = model.decode(after, automatic(2)).masks
    for index in range(2):
        torch.testing.assert_close(masks[:, index], wanted.masks[:, 0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(model.decode(after, box()).masks, boxed.masks, rtol=1e-3, atol=1e-4)


def test_every_new_weight_learns(model):
    model.extend(classes=2, fusion=True, anatomy=True)
    for name, parameter in model.named_parameters():
        if name.endswith(("out.0.weight", "out.1.weight", "token.weight", "dense.weight")):
            torch.nn.init.normal_(
                parameter, std=0.1
            )  # zero at first: what is before it waits a step
    embedding = model.encode(torch.rand(1, 1, SIDE, SIDE))
    masks = model.decode(embedding, automatic(2)).masks
    (masks.square().mean() + embedding.presence.square().mean()).backward()
    new = {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if name.startswith(("fusion.", "anatomy.", "presence.", "prompt_encoder.automatic"))
    }
    assert len(new) > 20
    assert [name for name, grad in new.items() if grad is None or not grad.abs().sum()] == []


@torch.no_grad()
def test_the_extractor_leaves_boxes_alone():
    model = made("lean")
    model.extend(classes=2, anatomy=True)
    embedding = model.encode(torch.rand(1, 1, SIDE, SIDE))
    boxed, free = model.decode(embedding, box()).masks, model.decode(embedding, automatic(2)).masks
    for parameter in model.anatomy.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    torch.testing.assert_close(model.decode(embedding, box()).masks, boxed)
    assert (model.decode(embedding, automatic(2)).masks - free).abs().amax() > 1e-3


@torch.no_grad()
def test_a_level_enters_at_its_own_grid():
    torch.manual_seed(0)
    fusion = Fusion((8, 8, 8), 256)
    for conv in fusion.out:
        torch.nn.init.normal_(conv.weight)
    levels = [torch.zeros(1, 8, side, side) for side in (32, 16, 8)]
    fine, middle = fusion(levels, torch.zeros(1, 256, 8, 8))
    assert fine.shape == (1, 32, 32, 32) and middle.shape == (1, 64, 16, 16)
    for index, (changes_fine, changes_middle) in enumerate([(1, 0), (1, 1), (1, 1)]):
        other = [level.clone() for level in levels]
        other[index] += torch.rand_like(other[index])
        new_fine, new_middle = fusion(other, torch.zeros(1, 256, 8, 8))
        assert bool((new_fine != fine).any()) == changes_fine
        assert bool((new_middle != middle).any()) == changes_middle
