"""Key maps: the names that authors and transformers give to the weights of the SAM family -> ours."""

import re

import torch

from samling.errors import InputError
from samling.models.weights import StateDict, rename

Rules = tuple[tuple[str, str], ...]

UNUSED = re.compile(
    r"pixel_mean|pixel_std|shared_image_embedding\..*"
    r"|image_encoder\.(norm_)?head\..*"  # MobileSAM: TinyViT's classifier
    # SAM 2: memory of earlier frames, for videos
    r"|memory_(attention|encoder)\..*|maskmem_tpos_enc|memory_temporal_positional_encoding"
    r"|no_mem_pos_enc|no_memory_positional_encoding|no_obj_ptr|no_object_pointer"
    r"|no_obj_embed_spatial|occlusion_spatial_embedding_parameter"
    r"|mask_downsample\..*|(obj_ptr|object_pointer)_(tpos_)?proj\..*"
    r"|temporal_positional_encoding_projection_layer\..*"
)
"""Weights that a single image does not need. Known by name: any other surplus key is an error."""

SAM_DECODER_KEYS: Rules = (
    (r"(mask_decoder\.transformer\.layers\.\d+)\.norm(\d)\.", r"\1.layer_norm\2."),
    (
        r"mask_decoder\.transformer\.norm_final_attn\.",
        "mask_decoder.transformer.layer_norm_final_attn.",
    ),
    (r"mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
    (r"mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
    (r"(output_hypernetworks_mlps\.\d|iou_prediction_head)\.layers\.0\.", r"\1.proj_in."),
    (r"(output_hypernetworks_mlps\.\d|iou_prediction_head)\.layers\.1\.", r"\1.layers.0."),
    (r"(output_hypernetworks_mlps\.\d|iou_prediction_head)\.layers\.2\.", r"\1.proj_out."),
)
"""SAM's names -> transformers' names; LiteMedSAM, MobileSAM, MedSAM share them."""

VIT_KEYS: Rules = (
    (r"image_encoder\.patch_embed\.proj\.", "image_encoder.patch_embed.projection."),
    (r"image_encoder\.blocks\.(\d+)\.norm(\d)\.", r"image_encoder.layers.\1.layer_norm\2."),
    (r"image_encoder\.blocks\.", "image_encoder.layers."),
    (r"(image_encoder\.layers\.\d+\.mlp\.)fc(\d)\.", r"\1lin\2."),  # EfficientSAM
    (r"image_encoder\.neck\.0\.", "image_encoder.neck.conv1."),
    (r"image_encoder\.neck\.1\.", "image_encoder.neck.layer_norm1."),
    (r"image_encoder\.neck\.2\.", "image_encoder.neck.conv2."),
    (r"image_encoder\.neck\.3\.", "image_encoder.neck.layer_norm2."),
)
"""SAM, MedSAM, SAM-Med2D, EfficientSAM."""

GATED_KEYS: Rules = (
    (r"(image_encoder\.layers\.\d+\.mlp)\.lin", r"\1.mlp.lin"),
    (r"(image_encoder\.layers\.\d+)\.Adapter\.", r"\1.mlp.adapter."),
)
"""SAM-Med2D, after `VIT_KEYS`."""

TINY_VIT_KEYS: Rules = (
    (r"image_encoder\.patch_embed\.seq\.", "image_encoder.patch_embed."),
    (r"(image_encoder\.layers\.0\.blocks\.\d)\.conv", r"\1.body.conv"),
)
"""MobileSAM and LiteMedSAM."""

HIERA_KEYS: Rules = (
    (r"image_encoder\.trunk\.", "image_encoder.backbone."),
    (r"backbone\.patch_embed\.proj\.", "backbone.patch_embed.projection."),
    (r"(backbone\.blocks\.\d+)\.norm(\d)\.", r"\1.layer_norm\2."),
    (r"(backbone\.blocks\.\d+\.mlp)\.layers\.0\.", r"\1.proj_in."),
    (r"(backbone\.blocks\.\d+\.mlp)\.layers\.1\.", r"\1.proj_out."),
    (r"(image_encoder\.neck\.convs\.\d)\.conv\.", r"\1."),
    (r"^(no_mem_embed|no_memory_embedding)$", "image_encoder.no_memory"),
    (r"^sam_(prompt_encoder|mask_decoder)\.", r"\1."),
    (r"^mask_decoder\.conv_s(\d)\.", r"skips.\1."),
    (r"(mask_decoder\.transformer\.layers\.\d\.mlp)\.(layers\.0|proj_in)\.", r"\1.lin1."),
    (r"(mask_decoder\.transformer\.layers\.\d\.mlp)\.(layers\.1|proj_out)\.", r"\1.lin2."),
    (r"(mask_decoder\.transformer\..*attn.*)\.o_proj\.", r"\1.out_proj."),
)
"""SAM 2, SAM 2.1 and MedSAM2, in the authors' names; some in transformers'."""

OBJECT_SCORE_KEYS: Rules = (
    (r"(pred_obj_score_head)\.layers\.0\.", r"\1.proj_in."),
    (r"(pred_obj_score_head)\.layers\.1\.", r"\1.layers.0."),
    (r"(pred_obj_score_head)\.layers\.2\.", r"\1.proj_out."),
)
"""SAM 2's object score, in the authors' names."""

EFFICIENT_KEYS: Rules = (
    (r"prompt_encoder\.invalid_points\.", "prompt_encoder.padding."),
    (r"mask_decoder\.final_output_upscaling_layers\.0\.0\.", "mask_decoder.upscale_conv1."),
    (r"mask_decoder\.final_output_upscaling_layers\.0\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"mask_decoder\.final_output_upscaling_layers\.1\.0\.", "mask_decoder.upscale_conv2."),
    (r"(transformer\.layers\.\d\.mlp)\.layers\.0\.0\.", r"\1.lin1."),
    (r"(transformer\.layers\.\d\.mlp)\.fc\.", r"\1.lin2."),
    (r"(output_hypernetworks_mlps\.\d|iou_prediction_head)\.layers\.0\.0\.", r"\1.proj_in."),
    (r"(output_hypernetworks_mlps\.\d|iou_prediction_head)\.layers\.1\.0\.", r"\1.layers.0."),
    (r"(output_hypernetworks_mlps\.\d|iou_prediction_head)\.fc\.", r"\1.proj_out."),
)
"""EfficientSAM, before `SAM_DECODER_KEYS`."""

TRANSFORMERS_KEYS: Rules = (
    (r"^vision_encoder\.", "image_encoder."),
    (r"prompt_encoder\.shared_embedding\.positional_embedding", "prompt_encoder.frequencies"),
    (r"prompt_encoder\.point_embed\.weight", "prompt_encoder.kinds.weight"),
    (r"prompt_encoder\.point_embed\.", "prompt_encoder.point_embeddings."),
    (r"prompt_encoder\.mask_embed\.conv1\.", "prompt_encoder.mask_downscaling.0."),
    (r"prompt_encoder\.mask_embed\.layer_norm1\.", "prompt_encoder.mask_downscaling.1."),
    (r"prompt_encoder\.mask_embed\.conv2\.", "prompt_encoder.mask_downscaling.3."),
    (r"prompt_encoder\.mask_embed\.layer_norm2\.", "prompt_encoder.mask_downscaling.4."),
    (r"prompt_encoder\.mask_embed\.conv3\.", "prompt_encoder.mask_downscaling.6."),
)
"""Hugging Face folders."""

PROMPT_KEYS: Rules = (
    (
        r"prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix",
        "prompt_encoder.frequencies",
    ),
    (r"prompt_encoder\.not_a_point_embed\.", "prompt_encoder.padding."),
    (r"prompt_encoder\.no_mask_embed\.", "prompt_encoder.no_mask."),
)
"""Everybody's prompt encoder."""


def without_unused(state: StateDict) -> StateDict:
    """The state without the weights that single images do not need."""
    return {key: value for key, value in state.items() if not UNUSED.fullmatch(key)}


def convert(state: StateDict) -> StateDict:
    """A published checkpoint of any family in our names; unknown keys keep theirs."""
    efficient = "prompt_encoder.bbox_top_left_embeddings.weight" in state
    authors_names = any(key.startswith("image_encoder.") for key in state)
    if any(key.startswith("vision_encoder.") for key in state):
        state = rename(state, TRANSFORMERS_KEYS)
    if any(".trunk." in key or ".backbone." in key for key in state):
        rules = HIERA_KEYS + (OBJECT_SCORE_KEYS if authors_names else ())
    elif any(".layers.0.blocks.0." in key for key in state):
        rules = TINY_VIT_KEYS
    else:
        rules = VIT_KEYS if authors_names else ()
        rules += GATED_KEYS if any(".Adapter." in key for key in state) else ()
    rules += (EFFICIENT_KEYS if efficient else ()) + PROMPT_KEYS
    # Transformers' names of the heads are the goal of these rules: not again
    rules += SAM_DECODER_KEYS if authors_names and not efficient else SAM_DECODER_KEYS[:2]
    renamed = rename(state, rules)
    return _efficient_prompts(renamed) if efficient else _one_table(renamed)


def litemedsam_state(state: StateDict) -> StateDict:
    """LiteMedSAM's checkpoint in our names.

    Raises:
        InputError: these are no weights of a SAM.
    """
    converted = convert(state)
    if "prompt_encoder.kinds.weight" not in converted:
        problem = "weights do not fit: missing prompt_encoder.point_embeddings"
        raise InputError("litemedsam", problem, "fetch them again")
    return converted


def _one_table(state: StateDict) -> StateDict:
    """The four point embeddings become one table, where they are four."""
    names = [f"prompt_encoder.point_embeddings.{index}.weight" for index in range(4)]
    if all(name in state for name in names):
        state["prompt_encoder.kinds.weight"] = torch.cat([state.pop(name) for name in names])
    return state


def _efficient_prompts(state: StateDict) -> StateDict:
    """EfficientSAM knows no negative point, and its padding has the position of pixel -1."""
    names = ("point_embeddings", "bbox_top_left_embeddings", "bbox_bottom_right_embeddings")
    keys = [f"prompt_encoder.{name}.weight" for name in names]
    padding, frequencies = "prompt_encoder.padding.weight", "prompt_encoder.frequencies"
    if not all(key in state for key in (*keys, padding, frequencies)):
        return state
    kinds = [state.pop(key) for key in keys]
    state["prompt_encoder.kinds.weight"] = torch.cat([torch.zeros_like(kinds[0]), *kinds])
    corner = torch.full((1, 2), 2 * (-1 + 0.5) / 1024 - 1, device=state[padding].device)
    phase = 2 * torch.pi * (corner @ state[frequencies])
    state[padding] = state[padding] + torch.cat([phase.sin(), phase.cos()], dim=-1)
    return state
