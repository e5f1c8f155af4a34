"""Checkpoints of the SAM family as their authors publish them: recognised, converted, loaded whole."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from samling.cache import cache_folder
from samling.errors import InputError, meant
from samling.models.families import FAMILIES, Reference, family_of, weights_in
from samling.models.key_maps import convert, without_unused
from samling.models.sam import Sam
from samling.models.unreadable import unreadable
from samling.models.vit import PATCH
from samling.models.weights import StateDict, load_strict

ABSENT = ("prompt_encoder.automatic.",)
ABSENT_IN_EFFICIENT = ("prompt_encoder.mask_downscaling.", "prompt_encoder.no_mask.")
"""Weights of ours that published models do not have and their prompts do not need."""

_HIERA_SIZES = {(96, 12): "t", (96, 16): "s", (112, 24): "b+", (144, 48): "l"}
_VIT_SIZES = {768: "b", 1024: "l", 1280: "h"}


def load_published(reference: Reference) -> tuple[Sam, str]:
    """The model with every weight of the checkpoint, and the name of its family.

    Raises:
        InputError: nothing there (says where to get it), unreadable, not recognised, of several
            families, of another family than was said, or keys are missing or surplus.
    """
    state = read_published(reference)
    name = recognise(state, reference)
    family = FAMILIES[name]
    state = convert(without_unused(state))
    table = state.get("image_encoder.pos_embed")
    # (1, H, W, C): made for a grid of its own; with a class token, (1, N, C), for any
    native = PATCH * table.shape[1] if table is not None and table.ndim == 4 else family.input_size
    try:
        model = Sam(family.architecture, reference.size or native, automatic=False)
    except ValueError as error:
        raise InputError(str(reference.path), str(error), "choose another size") from None
    resize_positions(state, model)
    absent = ABSENT + (ABSENT_IN_EFFICIENT if name.startswith("efficientsam") else ())
    for key, value in model.state_dict().items():
        if key.startswith(absent):
            value.zero_()  # unused, but part of the hash
    load_strict(model, state, str(reference.path), new=absent)
    return model.eval(), name


def read_published(reference: Reference) -> StateDict:
    """The tensors of a `.pth`, `.pt`, `.bin`, `.safetensors` or Hugging Face folder; nothing is run.

    Wrappers of training scripts (`{"model": ...}`, `module.`) are taken off.

    Raises:
        InputError: as `load_published`.
    """
    path = reference.path
    files = list(weights_in(path)) if path.is_dir() else [path]
    if not path.exists():
        raise InputError(str(path), "is not on this machine", where_to_get(reference))
    name = family_of(reference)
    megabytes = FAMILIES[name].megabytes if name and len(files) == 1 else None
    state: dict[str, Any] = {}
    for file in files:
        state |= _read(file, megabytes)
    for wrapper in ("model", "state_dict", "model_state_dict"):
        inner = state.get(wrapper)
        state = inner if isinstance(inner, dict) else state
    tensors = {
        key.removeprefix("module."): value
        for key, value in state.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }
    if len(tensors) != len(state) or not tensors:
        raise InputError(str(path), "is not a table of tensors", "give the model's own weights")
    return tensors


def recognise(state: StateDict, reference: Reference) -> str:
    """The family of a checkpoint, from its keys and shapes; from its name where those are shared.

    Raises:
        InputError: none, several, or another than was said.
    """
    possible = _by_keys(state)
    path = str(reference.path)
    if not possible:
        keys = ", ".join(list(state)[:3])
        known = ", ".join(FAMILIES)
        raise InputError(path, f"is of no family known here (keys {keys} ...)", f"known: {known}")
    if reference.family is not None:
        if reference.family not in possible:
            problem = f"is not {reference.family} but {' or '.join(possible)}"
            raise InputError(path, problem, "name that family, or leave the name out")
        return reference.family
    if len(possible) == 1:
        return possible[0]
    named = (path if reference.path.is_dir() else reference.path.name).lower().replace("-", "_")
    hinted = [name for name in possible if FAMILIES[name].hint in named]
    hinted = [name for name in hinted if name.startswith("medsam")] or hinted
    if len(hinted) == 1:
        return hinted[0]
    problem = f"can be {' or '.join(possible)}: the same tensors, other preprocessing"
    raise InputError(path, problem, f"say which, e.g. {possible[0]}:{path}")


def where_to_get(reference: Reference) -> str:
    """What to download from where, its size and licence."""
    name = family_of(reference)
    if name is None:
        said, colon, _ = str(reference.path).partition(":")
        nearest = meant(said, FAMILIES) if colon else ""
        return f"{nearest} Else name an existing file" if nearest else "name an existing file"
    family = FAMILIES[name]
    return (
        f"download {family.file} (about {family.megabytes} MB, licence {family.licence}) from "
        f"{family.source} and name the file, or put it into {cache_folder()}"
    )


def resize_positions(state: StateDict, model: nn.Module) -> None:
    """Bring the position tables of a ViT to the grid of `model`, in place.

    Absolute ones bilinearly, as SAM-Med2D's authors do; relative ones along their length; a table with a
    class token (EfficientSAM's, of 14 x 14) loses it and is stretched bicubically, as there.
    """
    own = model.state_dict()
    key = "image_encoder.pos_embed"
    if key in state and key in own and state[key].shape != own[key].shape:
        table, mode = state[key], "bilinear"
        if table.ndim == 3:
            side = int((table.shape[1] - 1) ** 0.5)
            table, mode = table[:, 1:].reshape(1, side, side, -1), "bicubic"
        size = list(own[key].shape[1:3])
        # 1, H, W, C -> 1, C, H, W and back
        state[key] = F.interpolate(table.permute(0, 3, 1, 2), size, mode=mode).permute(0, 2, 3, 1)
    for key in [key for key in state if ".rel_pos_" in key and key in own]:
        if state[key].shape[0] != own[key].shape[0]:
            length = own[key].shape[0]
            state[key] = F.interpolate(state[key].T[None], length, mode="linear")[0].T


def _by_keys(state: StateDict) -> list[str]:
    prefix = "vision_encoder." if any(k.startswith("vision_encoder.") for k in state) else None
    trunk = "backbone." if prefix else "trunk."
    prefix = prefix or "image_encoder."
    patch = [state.get(f"{prefix}{end}") for end in _PATCHES]
    width = next((value.shape[0] for value in patch if value is not None), 0)
    hiera = [key for key in state if key.startswith(f"{prefix}{trunk}blocks.")]
    if hiera:
        depth = 1 + max(
            int(key.removeprefix(f"{prefix}{trunk}blocks.").split(".")[0]) for key in hiera
        )
        size = _HIERA_SIZES.get((width, depth))
        return [] if size is None else [f"sam2-hiera-{size}", *(["medsam2"] if size == "t" else [])]
    if "prompt_encoder.bbox_top_left_embeddings.weight" in state:
        return {192: ["efficientsam-ti"], 384: ["efficientsam-s"]}.get(width, [])
    if "image_encoder.patch_embed.seq.0.c.weight" in state:
        kernel = state["image_encoder.patch_embed.seq.0.c.weight"].shape[-1]
        return ["mobilesam"] if kernel == 3 else []
    if any(".Adapter." in key for key in state):
        return ["sam-med2d"] if width == 768 else []
    size = _VIT_SIZES.get(width)
    return [] if size is None else [f"sam-vit-{size}", *(["medsam"] if size == "b" else [])]


_PATCHES = (
    "patch_embed.proj.weight",
    "patch_embed.projection.weight",
    "trunk.patch_embed.proj.weight",
    "backbone.patch_embed.projection.weight",
)


class _Ignored:
    """Stands for an object of a training script that is not wanted."""

    def __setstate__(self, state: object) -> None:
        """Keep nothing."""


def _empty(*_: object) -> dict[str, object]:
    """Stands for a defaultdict."""
    return {}


_STAND_INS: list[Any] = [
    # SAM-Med2D saved its optimiser as an object: it becomes nothing, and nothing else may be made
    (_Ignored, "torch.optim.adam.Adam"),
    (_Ignored, "torch.optim.adamw.AdamW"),
    (_empty, "collections.defaultdict"),
    (dict, "__builtin__.dict"),
    (dict, "builtins.dict"),
]


def _read(file: Path, megabytes: int | None) -> dict[str, Any]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with torch.serialization.safe_globals(_STAND_INS):
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds for a damaged file
        raise unreadable(file, error, megabytes) from error
    return state if isinstance(state, dict) else {}
