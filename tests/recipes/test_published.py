"""A published checkpoint from its file to masks, and as the base of an adapted run."""

import numpy as np
import pytest
import torch

import samling
from samling.inference.card import Card
from samling.models.sam import Sam
from samling.prompts.frame import Frame
from samling.recipes.adapt import adapt
from samling.recipes.build import load_base, load_torch

POINTS = "prompt_encoder.point_embeddings"


@pytest.fixture(scope="module")
def mobile_sam(tmp_path_factory):
    """A random MobileSAM in its authors' names. Their heads are numbered, transformers' are named."""
    torch.manual_seed(1)
    model = Sam("mobilesam", 64, automatic=False)
    state = {}
    for key, value in model.state_dict().items():
        key = key.replace("image_encoder.patch_embed.", "image_encoder.patch_embed.seq.")
        key = key.replace(".body.", ".").replace(
            "prompt_encoder.padding", "prompt_encoder.not_a_point_embed"
        )
        key = key.replace("prompt_encoder.no_mask", "prompt_encoder.no_mask_embed")
        key = key.replace("frequencies", "pe_layer.positional_encoding_gaussian_matrix")
        key = key.replace("upscale_layer_norm", "output_upscaling.1")
        key = key.replace(".layer_norm_final_attn", ".norm_final_attn").replace(
            ".layer_norm", ".norm"
        )
        key = key.replace(".upscale_conv1", ".output_upscaling.0").replace(
            ".upscale_conv2", ".output_upscaling.3"
        )
        if "mlps." in key or "iou_prediction_head" in key:
            key = key.replace(".layers.0.", ".layers.1.").replace(".proj_in.", ".layers.0.")
            key = key.replace(".proj_out.", ".layers.2.")
        if key == "prompt_encoder.kinds.weight":
            state |= {f"{POINTS}.{i}.weight": value[i : i + 1].clone() for i in range(4)}
        elif not key.startswith("prompt_encoder.automatic"):
            state[key] = value
    path = tmp_path_factory.mktemp("published") / "mobile_sam.pt"
    torch.save(state, path)
    return path


def test_a_file_becomes_a_segmenter_that_feeds_it_as_its_authors_do(mobile_sam):
    model = samling.load(f"{mobile_sam}@64")
    card = model.card
    assert (card.name, card.architecture, card.input_size) == ("mobilesam", "mobilesam", 64)
    assert (card.fit, card.padding, card.token_padding) == ("pad", "mean", "points")
    assert card.licence == "Apache-2.0"
    image = np.random.default_rng(0).integers(0, 255, (30, 50), dtype=np.uint8)
    masks, scores = model.predict(image, boxes=[[5, 5, 40, 25], [0, 0, 10, 10]])
    assert masks.shape == (2, 30, 50)
    assert np.isfinite(scores).all()


@torch.no_grad()
def test_padding_of_the_mean_colour_is_zero_after_normalisation(mobile_sam):
    model, seen = load_base(f"{mobile_sam}@64").model, []
    model.image_encoder.patch_embed.register_forward_hook(
        lambda _m, inputs, _o: seen.append(inputs[0])
    )
    plane = Frame(32, 64, 64).pad(np.full((32, 64), 0.5, np.float32), -1)
    model.encode(torch.from_numpy(plane)[None, None])
    assert (seen[0][0, :, 32:] == 0).all()
    wanted = (0.5 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(seen[0][0, :, 0, 0], wanted)


def test_an_adapted_run_over_it_follows_our_own_frame_and_is_loaded_again(
    mobile_sam, small_store, tmp_path
):
    base = f"{mobile_sam}@64"
    small = ["training.epochs=1", "training.batch_size=2", "training.precision=fp32"]
    small += ["training.prompts=[box]"]
    run = adapt(
        "uniultra-small", [small_store], tmp_path / "run", base, small, report=lambda _: None
    )
    card = Card.read(run / "adapter.json")
    assert card.base == base
    assert (card.fit, card.padding, card.token_padding) == ("pad", "black", "points")
    model, _ = load_torch(run)
    assert torch.isfinite(model.encode(torch.rand(1, 1, 64, 64)).image).all()
