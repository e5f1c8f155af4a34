"""Real weights and reference values, where they are here; the names that authors give to weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

from samling.errors import InputError
from samling.models.weights import StateDict, read_state


@pytest.fixture(scope="session")
def litemedsam_weights() -> StateDict:
    """LiteMedSAM's checkpoint as published; the test is skipped where it was not fetched."""
    from samling.cache import weights_path

    try:
        return read_state(weights_path("litemedsam"))
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def reference(shared_data: Path) -> dict[str, torch.Tensor]:
    """Outputs of the original LiteMedSAM; the test is skipped where they are absent."""
    path = shared_data.parent / "reference" / "litemedsam.npz"
    if not path.is_file():
        pytest.skip(f"reference values not found in {path}")
    with np.load(path) as values:
        return {name: torch.from_numpy(values[name]) for name in values.files}


# The authors' names and shapes, written down from their code. Values: the shape.


def linear(name, outputs, inputs):
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name, width):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def conv(name, *shape, bias=True):
    return {f"{name}.weight": shape} | ({f"{name}.bias": shape[:1]} if bias else {})


def transposed(name, inputs, outputs):
    return {f"{name}.weight": (inputs, outputs, 2, 2), f"{name}.bias": (outputs,)}


def neck(name, width):
    return (
        conv(f"{name}.0", 256, width, 1, 1, bias=False) | norm(f"{name}.1", 256)
        | conv(f"{name}.2", 256, 256, 3, 3, bias=False) | norm(f"{name}.3", 256)
    )  # fmt: skip


def prompt_encoder(name):
    state = {f"{name}.pe_layer.positional_encoding_gaussian_matrix": (2, 128)}
    state |= {f"{name}.point_embeddings.{i}.weight": (1, 256) for i in range(4)}
    state |= {f"{name}.{key}.weight": (1, 256) for key in ("not_a_point_embed", "no_mask_embed")}
    state |= conv(f"{name}.mask_downscaling.0", 4, 1, 2, 2) | norm(f"{name}.mask_downscaling.1", 4)
    state |= conv(f"{name}.mask_downscaling.3", 16, 4, 2, 2)
    return (
        state
        | norm(f"{name}.mask_downscaling.4", 16)
        | conv(f"{name}.mask_downscaling.6", 256, 16, 1, 1)
    )


def attention(name, inner):
    state = {}
    for part in ("q_proj", "k_proj", "v_proj"):
        state |= linear(f"{name}.{part}", inner, 256)
    return state | linear(f"{name}.out_proj", 256, inner)


def mlp3(name, outputs):
    state = linear(f"{name}.layers.0", 256, 256) | linear(f"{name}.layers.1", 256, 256)
    return state | linear(f"{name}.layers.2", outputs, 256)


def two_way(name, mlp):
    state = {}
    for i in range(2):
        layer = f"{name}.layers.{i}"
        state |= attention(f"{layer}.self_attn", 256)
        state |= attention(f"{layer}.cross_attn_token_to_image", 128)
        state |= attention(f"{layer}.cross_attn_image_to_token", 128)
        for k in range(1, 5):
            state |= norm(f"{layer}.norm{k}", 256)
        state |= linear(f"{layer}.mlp.{mlp[0]}", 2048, 256) | linear(
            f"{layer}.mlp.{mlp[1]}", 256, 2048
        )
    return (
        state
        | attention(f"{name}.final_attn_token_to_image", 128)
        | norm(f"{name}.norm_final_attn", 256)
    )


def mask_decoder(name, mlp=("lin1", "lin2")):
    state = two_way(f"{name}.transformer", mlp)
    state |= {f"{name}.iou_token.weight": (1, 256), f"{name}.mask_tokens.weight": (4, 256)}
    state |= transposed(f"{name}.output_upscaling.0", 256, 64) | norm(
        f"{name}.output_upscaling.1", 64
    )
    state |= transposed(f"{name}.output_upscaling.3", 64, 32)
    for i in range(4):
        state |= mlp3(f"{name}.output_hypernetworks_mlps.{i}", 32)
    return state | mlp3(f"{name}.iou_prediction_head", 4)


def sam_vit(width, depth, heads, grid=64, adapters=False):
    state = {"image_encoder.pos_embed": (1, grid, grid, width)}
    state |= conv("image_encoder.patch_embed.proj", width, 3, 16, 16)
    for i in range(depth):
        block = f"image_encoder.blocks.{i}"
        side = grid if (i + 1) % (depth // 4) == 0 else 14
        state |= norm(f"{block}.norm1", width) | norm(f"{block}.norm2", width)
        for axis in "hw":
            state[f"{block}.attn.rel_pos_{axis}"] = (2 * side - 1, width // heads)
        state |= linear(f"{block}.attn.qkv", 3 * width, width) | linear(
            f"{block}.attn.proj", width, width
        )
        state |= linear(f"{block}.mlp.lin1", 4 * width, width) | linear(
            f"{block}.mlp.lin2", width, 4 * width
        )
        if adapters:
            state |= norm(f"{block}.Adapter.norm", width)
            state[f"{block}.Adapter.channel.0.weight"] = (width // 4, width)
            state[f"{block}.Adapter.channel.2.weight"] = (width, width // 4)
            state[f"{block}.Adapter.spatial.0.weight"] = (width, width, 3, 3)
            state[f"{block}.Adapter.spatial.2.weight"] = (width, width, 4, 4)
    state |= neck("image_encoder.neck", width)
    return state | prompt_encoder("prompt_encoder") | mask_decoder("mask_decoder")


def conv_norm(name, *shape):
    state = {f"{name}.c.weight": shape, f"{name}.bn.num_batches_tracked": ()}
    return state | {
        f"{name}.bn.{key}": shape[:1] for key in ("weight", "bias", "running_mean", "running_var")
    }


def mobile_sam():
    widths, depths, heads, windows = (64, 128, 160, 320), (2, 2, 6, 2), (2, 4, 5, 10), (7, 7, 14, 7)
    encoder = "image_encoder"
    state = conv_norm(f"{encoder}.patch_embed.seq.0", 32, 3, 3, 3)
    state |= conv_norm(f"{encoder}.patch_embed.seq.2", 64, 32, 3, 3)
    for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        for j in range(depth):
            block = f"{encoder}.layers.{i}.blocks.{j}"
            if i == 0:
                state |= conv_norm(f"{block}.conv1", 256, 64, 1, 1) | conv_norm(
                    f"{block}.conv2", 256, 1, 3, 3
                )
                state |= conv_norm(f"{block}.conv3", 64, 256, 1, 1)
                continue
            state[f"{block}.attn.attention_biases"] = (heads[i], windows[i] ** 2)
            state |= norm(f"{block}.attn.norm", width) | norm(f"{block}.mlp.norm", width)
            state |= linear(f"{block}.attn.qkv", 3 * width, width) | linear(
                f"{block}.attn.proj", width, width
            )
            state |= linear(f"{block}.mlp.fc1", 4 * width, width) | linear(
                f"{block}.mlp.fc2", width, 4 * width
            )
            state |= conv_norm(f"{block}.local_conv", width, 1, 3, 3)
        if i < 3:
            down, following = f"{encoder}.layers.{i}.downsample", widths[i + 1]
            state |= conv_norm(f"{down}.conv1", following, width, 1, 1)
            state |= conv_norm(f"{down}.conv2", following, 1, 3, 3)
            state |= conv_norm(f"{down}.conv3", following, following, 1, 1)
    state |= norm(f"{encoder}.norm_head", 320) | linear(f"{encoder}.head", 1000, 320)
    state |= neck(f"{encoder}.neck", 320)
    return state | prompt_encoder("prompt_encoder") | mask_decoder("mask_decoder")


def efficient_sam(width):
    encoder, decoder = "image_encoder", "mask_decoder"
    state = {f"{encoder}.pos_embed": (1, 197, width)} | conv(
        f"{encoder}.patch_embed.proj", width, 3, 16, 16
    )
    for i in range(12):
        block = f"{encoder}.blocks.{i}"
        state |= norm(f"{block}.norm1", width) | norm(f"{block}.norm2", width)
        state |= linear(f"{block}.attn.qkv", 3 * width, width) | linear(
            f"{block}.attn.proj", width, width
        )
        state |= linear(f"{block}.mlp.fc1", 4 * width, width) | linear(
            f"{block}.mlp.fc2", width, 4 * width
        )
    state |= neck(f"{encoder}.neck", width)
    state["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"] = (2, 128)
    for key in ("invalid_points", "point", "bbox_top_left", "bbox_bottom_right"):
        end = "" if key == "invalid_points" else "_embeddings"
        state[f"prompt_encoder.{key}{end}.weight"] = (1, 256)
    state |= two_way(f"{decoder}.transformer", ("layers.0.0", "fc"))
    state |= {f"{decoder}.iou_token.weight": (1, 256), f"{decoder}.mask_tokens.weight": (4, 256)}
    up = f"{decoder}.final_output_upscaling_layers"
    state |= (
        transposed(f"{up}.0.0", 256, 64) | norm(f"{up}.0.1", 64) | transposed(f"{up}.1.0", 64, 32)
    )
    heads = {f"{decoder}.output_hypernetworks_mlps.{i}": 32 for i in range(4)}
    for name, outputs in {**heads, f"{decoder}.iou_prediction_head": 4}.items():
        state |= linear(f"{name}.layers.0.0", 256, 256) | linear(f"{name}.layers.1.0", 256, 256)
        state |= linear(f"{name}.fc", outputs, 256)
    return state


def sam2(width, depths, background=7, windows=(8, 4, 14, 7), version="2.1"):
    trunk, decoder = "image_encoder.trunk", "sam_mask_decoder"
    state = {f"{trunk}.pos_embed": (1, width, background, background)}
    state[f"{trunk}.pos_embed_window"] = (1, width, windows[0], windows[0])
    state |= conv(f"{trunk}.patch_embed.proj", width, 3, 7, 7)
    index, before = 0, width
    for stage, depth in enumerate(depths):
        out = width * 2**stage
        for _ in range(depth):
            block = f"{trunk}.blocks.{index}"
            state |= norm(f"{block}.norm1", before) | norm(f"{block}.norm2", out)
            state |= linear(f"{block}.attn.qkv", 3 * out, before) | linear(
                f"{block}.attn.proj", out, out
            )
            state |= linear(f"{block}.mlp.layers.0", 4 * out, out) | linear(
                f"{block}.mlp.layers.1", out, 4 * out
            )
            state |= linear(f"{block}.proj", out, before) if before != out else {}
            index, before = index + 1, out
    for k in range(4):
        state |= conv(f"image_encoder.neck.convs.{k}.conv", 256, width * 2 ** (3 - k), 1, 1)
    state |= prompt_encoder("sam_prompt_encoder") | mask_decoder(decoder, ("layers.0", "layers.1"))
    state |= conv(f"{decoder}.conv_s0", 32, 256, 1, 1) | conv(f"{decoder}.conv_s1", 64, 256, 1, 1)
    state |= {f"{decoder}.obj_score_token.weight": (1, 256)} | mlp3(
        f"{decoder}.pred_obj_score_head", 1
    )
    state |= {"no_mem_embed": (1, 1, 256), "no_mem_pos_enc": (1, 1, 256), "no_obj_ptr": (1, 256)}
    state |= {"maskmem_tpos_enc": (7, 1, 1, 64), "mask_downsample.weight": (1, 1, 4, 4)}
    state |= {"mask_downsample.bias": (1,), "memory_encoder.out_proj.weight": (64, 256, 1, 1)}
    state |= linear("memory_attention.layers.0.linear1", 2048, 256) | mlp3("obj_ptr_proj", 256)
    if version == "2.1":
        state |= {"no_obj_embed_spatial": (1, 64)} | linear("obj_ptr_tpos_proj", 64, 256)
    return state


PUBLISHED = {
    "sam-vit-b": sam_vit(768, 12, 12),
    "sam-vit-l": sam_vit(1024, 24, 16),
    "sam-vit-h": sam_vit(1280, 32, 16),
    "medsam": sam_vit(768, 12, 12),
    "sam-med2d": sam_vit(768, 12, 12, grid=16, adapters=True),
    "mobilesam": mobile_sam(),
    "efficientsam-ti": efficient_sam(192),
    "efficientsam-s": efficient_sam(384),
    "sam2-hiera-t": sam2(96, (1, 2, 7, 2)),
    "sam2-hiera-s": sam2(96, (1, 2, 11, 2), version="2"),
    "sam2-hiera-b+": sam2(112, (2, 3, 16, 3), background=14),
    "sam2-hiera-l": sam2(144, (2, 6, 36, 4), windows=(8, 4, 16, 8)),
    "medsam2": sam2(96, (1, 2, 7, 2)),
}


@pytest.fixture(scope="session")
def published() -> dict[str, dict[str, tuple[int, ...]]]:
    """Name and shape of every weight of every family, as its authors publish them."""
    return PUBLISHED
