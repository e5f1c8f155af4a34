"""export: a run as a bundle that predicts without PyTorch."""

from pathlib import Path

from samling.errors import InputError
from samling.inference.bundle import is_bundle

FORMATS = ("onnx",)


def export(model: str, out: Path, format: str = "onnx") -> Path:
    """Write MODEL as a bundle, after comparing its masks with the model's own.

    Args:
        model: run folder, distilled base or name.
        out: folder to make, or a `.zip`.
        format: `onnx`.

    Returns:
        `out`.

    Raises:
        InputError: unknown model or format, or the exported masks differ; nothing is written then.
    """
    if format not in FORMATS:
        raise InputError("--format", f"'{format}' is not offered", f"use {', '.join(FORMATS)}")
    if is_bundle(model):
        raise InputError(model, "is a bundle already", "name the run it was made from")
    from samling.export.bundle import check_target

    check_target(out)  # before a minute of work
    from samling.adapters.lora import merge_lora
    from samling.export.onnx import export_onnx
    from samling.recipes.build import load_torch

    promptable, card = load_torch(model)
    if card.adapter and card.adapter["kind"] == "lora":
        merge_lora(promptable)  # the bundle costs what the base costs
    export_onnx(promptable, card, out)
    return out
