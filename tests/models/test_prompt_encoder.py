"""The prompt encoder against transformers' SAM with the same weights."""

import pytest
import torch
from transformers.models.sam.configuration_sam import (
    SamConfig,
    SamPromptEncoderConfig,
    SamVisionConfig,
)
from transformers.models.sam.modeling_sam import SamPromptEncoder

from samling.models.prompt_encoder import PromptEncoder
from samling.prompts.prompt import Token


@pytest.fixture(scope="module")
def pair():
    """Ours and transformers', one set of weights."""
    torch.manual_seed(3)
    ours = PromptEncoder(256, 16)
    prompts = SamPromptEncoderConfig(image_size=256, patch_size=16)
    vision = SamVisionConfig(image_size=256, patch_size=16)
    theirs = SamPromptEncoder(SamConfig(vision_config=vision, prompt_encoder_config=prompts))
    with torch.no_grad():
        theirs.shared_embedding.positional_embedding.copy_(ours.frequencies)
        for index, embedding in enumerate(theirs.point_embed):
            embedding.weight.copy_(ours.kinds.weight[index : index + 1])
        theirs.not_a_point_embed.weight.copy_(ours.padding.weight)
        theirs.no_mask_embed.weight.copy_(ours.no_mask.weight)
    first, norm1, _, second, norm2, _, last = ours.mask_downscaling
    embed = theirs.mask_embed
    for target, source in zip(
        (embed.conv1, embed.layer_norm1, embed.conv2, embed.layer_norm2, embed.conv3),
        (first, norm1, second, norm2, last),
        strict=True,
    ):
        target.load_state_dict(source.state_dict())
    return ours.requires_grad_(False), theirs.requires_grad_(False)


COORDS = torch.tensor([[[12.0, 200.5], [3.25, 0.0]], [[255.0, 1.0], [128.0, 127.5]]])


def test_points_with_padding(pair):
    ours, theirs = pair
    labels = torch.tensor([[Token.POSITIVE, Token.NEGATIVE], [Token.NEGATIVE, Token.POSITIVE]])
    expected, _ = theirs(COORDS.unsqueeze(1), labels.unsqueeze(1), None, None)
    padded = torch.cat([COORDS, torch.zeros(2, 1, 2)], dim=1)
    kinds = torch.cat([labels, torch.full((2, 1), Token.PADDING)], dim=1)
    torch.testing.assert_close(ours.sparse(padded, kinds), expected.squeeze(1))


def test_boxes_after_points(pair):
    ours, theirs = pair
    points, labels = torch.tensor([[[40.0, 50.0]]]), torch.tensor([[Token.POSITIVE]])
    box = torch.tensor([[[10.0, 20.0, 99.0, 120.0]]])
    expected, _ = theirs(points.unsqueeze(1), labels.unsqueeze(1), box, None)
    coords = torch.cat([points, box.view(1, 2, 2)], dim=1)
    kinds = torch.tensor([[Token.POSITIVE, Token.TOP_LEFT, Token.BOTTOM_RIGHT]])
    torch.testing.assert_close(ours.sparse(coords, kinds), expected.squeeze(1))


def test_masks(pair):
    ours, theirs = pair
    masks = torch.randn(2, 1, 64, 64)
    _, expected = theirs(None, None, None, masks)
    torch.testing.assert_close(ours.dense(masks, None, 2), expected, rtol=1e-4, atol=1e-5)


def test_no_mask(pair):
    ours, theirs = pair
    _, expected = theirs(None, None, torch.zeros(1, 1, 4), None)
    torch.testing.assert_close(ours.dense(None, None, 3), expected.expand(3, -1, -1, -1))


def test_grid_is_the_position_of_cell_centres(pair):
    ours, _ = pair
    grid = ours.grid()
    assert grid.shape == (1, 256, 16, 16)
    centre = torch.tensor([(5 + 0.5) / 16, (2 + 0.5) / 16])  # column 5, row 2
    torch.testing.assert_close(grid[0, :, 2, 5], ours.positions(centre))


def test_automatic_tokens_are_learned_vectors_without_a_place(pair):
    ours, _ = pair
    kinds = Token.AUTOMATIC + torch.arange(4).unsqueeze(0)
    expected = ours.automatic.weight.unsqueeze(0)
    for coords in (torch.zeros(1, 4, 2), torch.full((1, 4, 2), 99.0)):
        torch.testing.assert_close(ours.sparse(coords, kinds), expected)
