"""identity: what changes when a model does, so that results of two models are never taken for one's."""

import hashlib
from importlib import resources
from importlib.metadata import version
from pathlib import Path

from samling.cache import LITEMEDSAM_SHA256, NAMED_MODELS
from samling.models.families import refer, weights_in

WEIGHTS = ("*.safetensors", "*.onnx", "*.xml", "*.bin", "*.json")
_SHIPPED = Path(str(resources.files("samling") / "weights"))
SHIPPED = {"base": _SHIPPED, "base-tiny": _SHIPPED / "tiny", "base-zoom": _SHIPPED}
"""Models that come with samling, and the folder of each."""


def fingerprint(model: str) -> str:
    """What changes when a model does: a hash of its files, or its name and our version."""
    path = place_of(model)
    if (reference := refer(model)) is not None:  # a published checkpoint, of any size
        said = f"{reference.family} {reference.size}"
        files = weights_in(reference.path) or [reference.path]
        words = [said, *(_sha256(file) for file in files if file.is_file())]
        return hashlib.sha256(" ".join(words).encode()).hexdigest()
    if path.is_file():
        return _sha256(path)
    named = f"{model} {version('samling')} {LITEMEDSAM_SHA256}"
    if model not in SHIPPED and (model in NAMED_MODELS or not path.is_dir()):
        return named
    digest = hashlib.sha256(named.encode() if model in SHIPPED else b"")
    for file in sorted(file for pattern in WEIGHTS for file in path.glob(pattern)):
        digest.update(file.name.encode())
        digest.update(bytes.fromhex(_sha256(file)))
    return digest.hexdigest()


def place_of(model: str) -> Path:
    """File or folder of a model's weights; a name without either comes back as it is."""
    if (reference := refer(model)) is not None:
        return reference.path
    return SHIPPED.get(model, Path(model))


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
