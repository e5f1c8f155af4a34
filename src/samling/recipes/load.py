"""load: a run, a bundle or a named model, ready to predict. What `samling.load` is."""

import importlib.util
from pathlib import Path

from samling.cache import NAMED_MODELS
from samling.errors import InputError
from samling.inference.segmenter import Segmenter


def load(model: str | Path) -> Segmenter:
    """Load a model.

    A bundle (folder or zip) runs on ONNX Runtime and needs no PyTorch; a run folder, a distilled
    base and a named model (`litemedsam`) need the `train` extra.

    Raises:
        InputError: unknown, damaged, or PyTorch is missing.
    """
    from samling.inference.bundle import is_bundle

    path = Path(model)
    if is_bundle(path):
        from samling.inference.onnx_backend import load_bundle

        return load_bundle(path)
    if path.is_file():
        problem = "is a file, but no bundle"
        raise InputError(
            path, problem, "name a run folder, a bundle (folder or .zip) or a known model"
        )
    if not path.exists() and str(model) not in NAMED_MODELS:
        names = ", ".join(NAMED_MODELS)
        raise InputError(model, "does not exist", f"name a run, a bundle or one of {names}")
    if importlib.util.find_spec("torch") is None:
        problem = "is no bundle, and anything else needs PyTorch"
        raise InputError(
            model,
            problem,
            "pip install '.[train]' in the folder of samling's source, or give a bundle",
        )
    from samling.inference.torch_backend import TorchBackend
    from samling.recipes.build import load_torch

    promptable, card = load_torch(model)
    return Segmenter(TorchBackend(promptable), card)
