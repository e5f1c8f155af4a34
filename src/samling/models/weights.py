"""Weights: reading checkpoints safely, renaming, strict loading, warm start, hashes."""

import hashlib
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from samling.errors import InputError
from samling.models.unreadable import unreadable

StateDict = dict[str, Tensor]


def sha256_of(path: str | Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of_tensors(state: StateDict) -> str:
    """Hex SHA-256 over names, dtypes, shapes and values, in order of name."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_state(path: str | Path) -> StateDict:
    """Tensors of a `.safetensors` or a PyTorch checkpoint; a pickle only through `weights_only`.

    Raises:
        InputError: missing, unreadable, or not a flat table of tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(path, "weights are missing", "fetch or name an existing file")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else _read_pickle(path)
    except Exception as error:  # torch and safetensors raise many kinds for a damaged file
        raise unreadable(path, error) from error
    flat = isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values())
    if not flat:
        raise InputError(path, "is not a flat table of tensors", "give the model's own weights")
    return state


def _read_pickle(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def rename(state: StateDict, rules: tuple[tuple[str, str], ...]) -> StateDict:
    """Apply every rule to every key, in order."""
    renamed: StateDict = {}
    for key, value in state.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed


def load_strict(
    model: nn.Module, state: StateDict, where: str, *, new: tuple[str, ...] = ()
) -> None:
    """Load every weight; only names starting with one of `new` may be absent from `state`.

    Raises:
        InputError: keys are missing or surplus, or a shape differs; all of them are named.
    """
    own = model.state_dict()
    missing = [key for key in own if key not in state and not key.startswith(new or ("\0",))]
    surplus = [key for key in state if key not in own]
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    problems = [f"missing {', '.join(missing)}"] * bool(missing)
    problems += [f"surplus {', '.join(surplus)}"] * bool(surplus)
    problems += [f"other shapes: {', '.join(shapes)}"] * bool(shapes)
    if problems:
        raise InputError(
            where, f"weights do not fit: {'; '.join(problems)}", "use weights of this model"
        )
    model.load_state_dict(state, strict=False)


def warm_start(model: nn.Module, state: StateDict) -> list[str]:
    """Copy every weight whose shape fits, resample bias tables of as many heads; return the names left.

    A bias table (heads, w * w) holds one value per offset (|dy|, |dx|): bilinear from w x w to w' x w'.
    """
    own = model.state_dict()
    fitting: StateDict = {}
    for key, target in own.items():
        source = state.get(key)
        if source is None:
            continue
        if source.shape == target.shape:
            fitting[key] = source
        elif key.endswith("attention_biases") and len(source) == len(target):
            fitting[key] = _resample_biases(source, target.shape[1])
    model.load_state_dict(fitting, strict=False)
    return [key for key in own if key not in fitting]


def _resample_biases(biases: Tensor, offsets: int) -> Tensor:
    heads, old = biases.shape
    old_window, new_window = int(old**0.5), int(offsets**0.5)
    planes = biases.view(1, heads, old_window, old_window)
    size = (new_window, new_window)
    return F.interpolate(planes, size, mode="bilinear", align_corners=True).view(heads, -1)
