"""Networks as promptable models: the box channel, the quality, every architecture's shapes."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from samling.errors import InputError
from samling.evaluation.baselines import fill_box
from samling.models.contract import Promptable, PromptTokens
from samling.models.networks.network import Network, boxes_drawn, expected_iou
from samling.models.networks.registry import NETWORKS
from samling.prompts.frame import Frame
from samling.prompts.prompt import Prompt

WIDTHS = {"fc-densenet": 2}


def tokens(prompts: list[Prompt], height: int, width: int, side: int) -> PromptTokens:
    frame = Frame(height, width, side)
    pairs = [prompt.tokens(frame) for prompt in prompts]
    coords = torch.from_numpy(np.stack([coords for coords, _ in pairs]))[None]
    return PromptTokens(coords, torch.from_numpy(np.stack([labels for _, labels in pairs]))[None])


@pytest.mark.parametrize("box", [(3, 4, 20, 9), (0, 0, 32, 32), (2.5, 7.25, 30.75, 8.0)])
def test_the_box_channel_is_the_filled_box(box) -> None:
    prompt = Prompt(box=np.array(box, float))
    drawn = boxes_drawn(tokens([prompt], 32, 32, 32), 32)[0, 0, 0].numpy()
    assert np.array_equal(drawn, fill_box(np.zeros((32, 32), np.float32), prompt))


def test_automatic_mode_has_an_empty_box_channel() -> None:
    assert not boxes_drawn(tokens([Prompt()], 32, 32, 32), 32).any()


def test_expected_iou_by_hand() -> None:
    p = torch.tensor([[[0.9, 0.8], [0.3, 0.1]]])
    assert expected_iou(torch.logit(p)).item() == pytest.approx(1.7 / (2 + 0.4), abs=1e-5)


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_network_answers_prompts_one_by_one(kind) -> None:
    model = Network(kind, width=WIDTHS.get(kind, 4), input_size=64).eval()
    assert isinstance(model, Promptable)
    boxes = [Prompt(box=np.array(b, float)) for b in ((5, 5, 20, 20), (30, 30, 60, 50))]
    with torch.no_grad():
        embedding = model.encode(torch.rand(1, 1, 64, 64))
        both = model.decode(embedding, tokens(boxes, 64, 64, 64))
        alone = model.decode(embedding, tokens(boxes[1:], 64, 64, 64))
    assert both.masks.shape == (1, 2, 64, 64)
    assert both.quality.shape == (1, 2) and ((both.quality >= 0) & (both.quality <= 1)).all()
    torch.testing.assert_close(both.masks[:, 1:], alone.masks, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(both.masks[:, 0], both.masks[:, 1]), "the box changes the answer"


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_layout_in_memory_changes_no_answer(kind) -> None:
    make, _ = NETWORKS[kind]
    network = make(2, WIDTHS.get(kind, 4), 64).eval()
    by_plane = deepcopy(network).to(memory_format=torch.contiguous_format)
    images = torch.rand(2, 2, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(images), by_plane(images), rtol=1e-4, atol=1e-4)


def test_unknown_networks_and_odd_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="is no network"):
        Network("vnet")
    with pytest.raises(InputError, match="multiple of 32"):
        Network("unet", input_size=100)
