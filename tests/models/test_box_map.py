"""BoxMap: features worked out by hand, only for boxes, nothing at first, and it can learn."""

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from samling.models.box_map import GAIN, BoxMap
from samling.models.contract import PromptTokens
from samling.models.sam import Sam
from samling.prompts.prompt import Prompt, Token
from samling.recipes.objective import to_tokens

SIDE = 256


def features(box, side=64):
    corners = torch.tensor(box, dtype=torch.float32)
    return BoxMap(SIDE, 16, (8, 4, 2)).features(corners[None, :2], corners[None, 2:], side)[0]


def test_positions_and_distances_are_those_of_the_box():
    # Centre (66, 62), half axes 40 and 20; cell (17, 15) has its centre in (70, 62)
    across, down, squared, to_ellipse, _, to_box, further = features((26, 42, 106, 82))[:, 15, 17]
    share = 4 / 40
    assert across == pytest.approx(GAIN * np.tanh(share), rel=1e-5)
    assert down == 0
    assert squared == pytest.approx(GAIN * np.tanh(share**2), rel=1e-4)
    assert to_ellipse == pytest.approx(GAIN, rel=1e-4)
    assert to_box == pytest.approx(GAIN * np.tanh(20 / 4), rel=1e-5)
    assert further == pytest.approx(GAIN * np.tanh(20 / 16), rel=1e-5)


def test_near_the_outline_the_distance_to_the_ellipse_is_that_of_a_distance_transform():
    x0, y0, x1, y1 = 40, 60, 200, 150
    found = torch.atanh(features((x0, y0, x1, y1), side=SIDE)[3] / GAIN).numpy()
    y, x = np.indices((8 * SIDE, 8 * SIDE)) / 8 + 1 / 16
    inside = ((x - 120) / 80) ** 2 + ((y - 105) / 45) ** 2 <= 1
    exact = (distance_transform_edt(inside) - distance_transform_edt(~inside)) / 8
    exact = exact.reshape(SIDE, 8, SIDE, 8).mean((1, 3))
    near = np.abs(exact) < 2
    assert near.sum() > 1000
    # To first order, and on a grid of eighths of a pixel
    np.testing.assert_allclose(found[near], exact[near], atol=0.15)


def test_a_moved_box_moves_its_map():
    here, there = features((32, 64, 80, 160)), features((40, 56, 88, 152))  # 2 cells and -2 cells
    torch.testing.assert_close(here[:, 2:, :-2], there[:, :-2, 2:])


def test_a_box_of_one_pixel_is_finite():
    assert features((10, 10, 10, 10)).isfinite().all()


@pytest.mark.parametrize("with_point", [False, True])
def test_the_pixels_of_the_box_are_inside_and_no_others(with_point):
    drawn = BoxMap(SIDE, SIDE, (1,))
    drawn.levels[0].weight.data[0, 5] = 1  # the distance to the box's sides
    prompt = Prompt(box=np.array([41.0, 50, 92, 120]))
    if with_point:
        prompt = Prompt(prompt.box, np.array([[60.0, 70.0]]), np.array([1]))
    coords, labels, *_ = to_tokens([prompt], SIDE, torch.device("cpu"))
    [[inside]] = drawn(coords[:, 0], labels[:, 0])[0] > 0
    wanted = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    wanted[50:120, 41:92] = True
    assert torch.equal(inside, wanted)


def learned(sam):
    for parameter in sam.box_map.parameters():
        torch.nn.init.normal_(parameter, std=0.1)


@torch.no_grad()
def test_only_boxes_have_one():
    torch.manual_seed(0)
    sam = Sam("tiny").eval()
    embedding = sam.encode(torch.rand(1, 1, SIDE, SIDE))
    points = np.array([[60.0, 70.0]]), np.array([1])
    asked = {
        "box": Prompt(box=np.array([40.0, 50, 90, 120])),
        "both": Prompt(np.array([40.0, 50, 90, 120]), *points),
        "points": Prompt(points=points[0], point_labels=points[1]),
        "automatic": Prompt(),
    }
    tokens = {
        name: to_tokens([prompt], SIDE, torch.device("cpu")) for name, prompt in asked.items()
    }
    before = {name: sam.decode(embedding, given).masks for name, given in tokens.items()}
    learned(sam)
    for name, given in tokens.items():
        same = torch.equal(sam.decode(embedding, given).masks, before[name])
        assert same is (name in ("points", "automatic")), name


@torch.no_grad()
def test_it_starts_without_effect_and_is_absent_without_skips():
    torch.manual_seed(0)
    sam = Sam("tiny").eval()
    embedding = sam.encode(torch.rand(1, 1, SIDE, SIDE))
    tokens = PromptTokens(
        torch.tensor([[[[30.0, 40.0], [99.0, 139.0]]]]),
        torch.tensor([[[Token.TOP_LEFT, Token.BOTTOM_RIGHT]]]),
    )
    drawn = sam.decode(embedding, tokens).masks
    sam.box_map = None
    assert torch.equal(drawn, sam.decode(embedding, tokens).masks)
    assert Sam("light").box_map is None
    assert Sam("hiera-mini").box_map is None  # as its paper has it


def test_it_learns_from_the_first_step():
    sam = Sam("tiny")
    tokens = to_tokens([Prompt(box=np.array([40.0, 50, 90, 120]))], SIDE, torch.device("cpu"))
    sam.decode(sam.encode(torch.rand(1, 1, SIDE, SIDE)), tokens).masks.square().mean().backward()
    for level in sam.box_map.levels:
        assert level.weight.grad.abs().max() > 0
