"""load: a run, a bundle or a named model, ready to predict. What `samling.load` is."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from samling.cache import NAMED_MODELS
from samling.errors import InputError
from samling.inference.segmenter import Segmenter
from samling.models.families import FAMILIES, refer, unknown_model

if TYPE_CHECKING:
    from samling.inference.onnx_backend import Runtime


def load(model: str | Path, runtime: str | None = None, threads: int | None = None) -> Segmenter:
    """Load a model.

    A bundle (folder or zip) runs on what it was exported for, ONNX Runtime or OpenVINO; one in floats
    on either (`runtime="openvino"`). It needs no PyTorch. A run folder, a distilled base, a named
    model (`litemedsam`) and a checkpoint of the SAM family as its authors publish it
    (`sam_vit_b_01ec64.pth`, `medsam:weights.pth`, `sam2.1_hiera_tiny.pt@512`, a Hugging Face folder)
    need the `train` extra.

    Args:
        model: path or name.
        runtime: of a bundle; None: the one it was exported for.
        threads: of a bundle, for one image; None: as many as this process may use, at most 8.

    Raises:
        InputError: unknown, damaged, or PyTorch or the runtime is missing.
    """
    from samling.inference.bundle import is_bundle

    path = Path(model)
    if runtime is not None or is_bundle(path):
        return _bundle(path, runtime, threads)
    if path.is_file() and refer(str(model)) is None:
        problem = "is a file, but no bundle"
        raise InputError(
            path, problem, "name a run folder, a bundle (folder or .zip) or a known model"
        )
    known = (*NAMED_MODELS, *FAMILIES)
    if not path.exists() and str(model) not in known and refer(str(model)) is None:
        raise unknown_model(model, "does not exist")
    if importlib.util.find_spec("torch") is None:
        problem = "is no bundle, and anything else needs PyTorch"
        raise InputError(
            model,
            problem,
            "give a bundle (`samling export` makes one where PyTorch is), or pip install '.[train]' in "
            "the folder of samling's source",
        )
    from samling.inference.torch_backend import TorchBackend
    from samling.recipes.build import load_torch

    promptable, card = load_torch(model)
    return Segmenter(TorchBackend(promptable), card)


def _bundle(path: Path, runtime: str | None, threads: int | None) -> Segmenter:
    from samling.inference.bundle import is_bundle
    from samling.inference.onnx_backend import RUNTIMES, load_bundle

    chosen: Runtime | None = next((known for known in RUNTIMES if known == runtime), None)
    if runtime is not None and chosen is None:
        raise InputError("runtime", f"'{runtime}' is unknown", f"use {', '.join(RUNTIMES)}")
    if not is_bundle(path):
        problem = "is no bundle, and runtimes are for bundles"
        raise InputError(path, problem, "export it first, or leave the runtime out")
    return load_bundle(path, threads, chosen)
