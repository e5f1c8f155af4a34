"""Parity with the original LiteMedSAM on its real weights, and the trap in its reference values."""

import pytest
import torch

from samling.models.contract import Embedding, PromptTokens
from samling.models.key_maps import litemedsam_state
from samling.models.sam import Sam
from samling.models.weights import load_strict, warm_start
from samling.prompts.prompt import Token


@pytest.fixture(scope="module")
def litemedsam(litemedsam_weights):
    model = Sam("full", automatic=False)
    load_strict(
        model, litemedsam_state(litemedsam_weights), "x", new=("prompt_encoder.automatic.",)
    )
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def trained_embedding(litemedsam, reference):
    """With the attention biases the network was trained with."""
    return litemedsam.encode(reference["image"].view(1, 1, 256, 256)).image


@pytest.fixture(scope="module")
def bare_embedding(litemedsam, reference):
    """With all attention biases zero."""
    biases = [p for n, p in litemedsam.named_parameters() if n.endswith("attention_biases")]
    assert len(biases) == 10
    kept = [bias.clone() for bias in biases]
    for bias in biases:
        bias.zero_()
    embedding = litemedsam.encode(reference["image"].view(1, 1, 256, 256)).image
    for bias, values in zip(biases, kept, strict=True):
        bias.copy_(values)
    return embedding


def boxes(reference, count):
    coords = reference["boxes"][:count].float().view(1, count, 2, 2)
    return PromptTokens(coords, torch.tensor([[[Token.TOP_LEFT, Token.BOTTOM_RIGHT]] * count]))


def test_embedding_without_biases_is_the_reference(bare_embedding, reference):
    """The original TinyViT copies its attention biases when `eval()` is called.

    The reference was made with `eval()` before the weights were loaded, so that it used biases of
    zero. Everything else is the trained network. Ours, biases zeroed, must be the same.
    """
    seen = bare_embedding[0, ::32, ::8, ::8]
    wanted = reference["embedding_slice"].reshape(seen.shape)
    torch.testing.assert_close(seen, wanted, rtol=0, atol=1e-4)
    assert bare_embedding.mean().item() == pytest.approx(
        float(reference["embedding_mean"]), abs=1e-5
    )
    assert bare_embedding.std().item() == pytest.approx(float(reference["embedding_std"]), abs=1e-5)


def test_the_trained_biases_change_the_embedding(trained_embedding, bare_embedding):
    """Not the reference, and on purpose: the biases are part of what was trained."""
    difference = (trained_embedding - bare_embedding).abs()
    assert difference.max() > 0.01
    assert difference.mean() > 0.001


def test_masks_are_the_reference(litemedsam, bare_embedding, reference):
    decoded = litemedsam.decode(Embedding(bare_embedding, None), boxes(reference, 2))
    seen = decoded.masks[0, :, ::4, ::4]
    wanted = reference["low_res_logits"].reshape(seen.shape)
    torch.testing.assert_close(seen, wanted, rtol=0, atol=1e-3)
    areas = (decoded.masks[0] > 0).flatten(1).sum(1)
    assert (areas - reference["low_res_area"].reshape(-1)).abs().max() <= 2
    torch.testing.assert_close(
        decoded.quality[0], reference["iou"].float().reshape(-1), rtol=0, atol=1e-4
    )


def test_multimasks_are_the_reference(litemedsam, bare_embedding, reference):
    decoded = litemedsam.decode(
        Embedding(bare_embedding, None), boxes(reference, 1), multimask=True
    )
    seen = decoded.masks[0, :, ::4, ::4]
    wanted = reference["multimask_logits"].reshape(seen.shape)
    torch.testing.assert_close(seen, wanted, rtol=0, atol=1e-3)
    quality = reference["multimask_iou"].float().reshape(-1)
    torch.testing.assert_close(decoded.quality[0], quality, rtol=0, atol=1e-4)


def test_prompt_embeddings_are_the_reference(litemedsam, reference):
    encoder = litemedsam.prompt_encoder
    kinds = torch.tensor([[Token.POSITIVE, Token.PADDING]])
    sparse = encoder.sparse(torch.tensor([[[140.0, 120.0], [0, 0]]]), kinds)
    wanted = reference["point_sparse"].reshape(1, -1, 256)
    torch.testing.assert_close(sparse[:, : wanted.shape[1]], wanted, rtol=0, atol=1e-5)
    grid = encoder.grid()[0, ::32, ::8, ::8]
    slice_ = reference["dense_pe_slice"].reshape(grid.shape)
    torch.testing.assert_close(grid, slice_, rtol=0, atol=1e-5)


def test_light_warm_start_leaves_only_the_stem_and_automatic_mode_new(litemedsam_weights):
    left = warm_start(Sam("light"), litemedsam_state(litemedsam_weights))
    assert set(left) == {
        "image_encoder.patch_embed.0.c.weight",
        "image_encoder.patch_embed.2.c.weight",
        "prompt_encoder.automatic.weight",
        "presence.linear.weight",
        "presence.linear.bias",
        "presence.evidence.weight",
        "presence.evidence.bias",
    }
