"""export: a run as a bundle that predicts without PyTorch."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from samling.errors import InputError
from samling.inference.bundle import is_bundle
from samling.recipes.caveats import unfinished
from samling.recipes.run_folder import epochs_of

if TYPE_CHECKING:
    from samling.export.parity import Parity
    from samling.inference.bundle import Bundle
    from samling.inference.onnx_backend import Runtime

FORMATS = ("onnx", "onnx-int8", "openvino-int8")
"""Floats for any runtime; 8 bits for ONNX Runtime, and for OpenVINO."""


def export(
    model: str,
    out: Path,
    format: str = "onnx",
    stores: Sequence[Path] = (),
    most_drop: float = 0.5,
    *,
    report: Callable[[str], None] = lambda message: None,
) -> Path:
    """Write MODEL as a bundle, after comparing its masks with the model's own.

    Args:
        model: run folder, distilled base or name.
        out: folder to make, or a `.zip`.
        format: `onnx`, or an encoder in 8 bits for one of the runtimes, see `FORMATS`.
        stores: for 8 bits: their training images set the ranges, their validation images say
            what it costs.
        most_drop: points of Dice that 8 bits may cost in any kind of prompt.
        report: told what is going on.

    Returns:
        `out`.

    Raises:
        InputError: unknown model or format, the exported masks differ, or 8 bits cost too much;
            nothing is written then.
    """
    _check_use(model, format, stores)
    from samling.export.bundle import check_target, write_bundle

    check_target(out)  # before a minute of work
    from samling.export.model_card import model_card

    limits = unfinished({Path(model).name: epochs_of(Path(model))})
    for sentence in limits:
        report(sentence)
    report(f"writing {model} as ONNX and comparing its masks with PyTorch's")
    bundle, parity = _in_floats(model)
    report(f"{parity.masks} masks agree to an IoU of {parity.least_iou:.4f} or more")
    precision, calibrated = "32-bit floats", bundle.card.calibration is not None
    if stores:
        from samling.recipes.export_int8 import in_eight_bits

        runtime: Runtime = "onnxruntime" if format == "onnx-int8" else "openvino"
        bundle, precision = in_eight_bits(bundle, stores, most_drop, report, runtime)
    write_bundle(bundle, model_card(bundle.card, parity, precision, limits), out)
    if calibrated and bundle.card.calibration is None:
        report(_how_to_calibrate(out, stores))
    return out


def _how_to_calibrate(out: Path, stores: Sequence[Path]) -> str:
    said = "not calibrated in 8 bits, so it says no expected Dice"
    if out.suffix.lower() == ".zip":
        return f"{said}: export to a folder, not a zip, and calibrate that"
    data = " ".join(f"--data {shlex.quote(str(store))}" for store in stores)
    return f"{said}: samling calibrate {shlex.quote(str(out))} {data}"


def _check_use(model: str, format: str, stores: Sequence[Path]) -> None:
    if format not in FORMATS:
        raise InputError("--format", f"'{format}' is not offered", f"use {', '.join(FORMATS)}")
    if is_bundle(model):
        raise InputError(model, "is a bundle already", "name the run it was made from")
    if format == "openvino-int8":
        from samling.export.openvino_int8 import check_installed

        check_installed()
    if format != "onnx" and not stores:
        problem = "needs images, which set the ranges of its 8 bits"
        raise InputError(f"--format {format}", problem, "add --data STORE.h5, made by prepare")
    if format == "onnx" and stores:
        problem = "sets the ranges of 8 bits, and --format onnx is in floats"
        remedy = f"leave it out, or add --format {' or '.join(FORMATS[1:])}"
        raise InputError(f"--data {stores[0]}", problem, remedy)


def _in_floats(model: str) -> "tuple[Bundle, Parity]":
    from samling.adapters.lora import merge_lora
    from samling.export.onnx import make_bundle
    from samling.recipes.build import load_torch

    promptable, card = load_torch(model)
    if card.adapter and card.adapter["kind"] == "lora":
        merge_lora(promptable)  # the bundle costs what the base costs
    return make_bundle(promptable, card)
