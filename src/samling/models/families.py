"""Published checkpoints of the SAM family: what each is, how it is fed, and where its owner finds it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from samling.cache import NAMED_MODELS, UNTAUGHT, cache_folder
from samling.errors import InputError, meant

Fit = Literal["pad", "stretch"]
Padding = Literal["black", "mean"]
TokenPadding = Literal["points", "always", "six"]
SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")


@dataclass(frozen=True)
class Family:
    """One published model.

    Args:
        architecture: see `samling.models.architectures`.
        input_size: side of its square in pixels.
        file: the name under which its authors publish it.
        megabytes: about how large that file is.
        source: where to get it. licence: of the weights.
        fit: whether an image keeps its aspect or is stretched to the square.
        padding: what surrounds an image that keeps its aspect.
        token_padding: when the prompt encoder is given padding tokens, see `prompts.prompt`.
        prompts: what it was trained for.
        hint: part of the file's name that tells it from another family of the same tensors.
    """

    architecture: str
    input_size: int
    file: str
    megabytes: int
    source: str
    licence: str = "Apache-2.0"
    fit: Fit = "stretch"
    padding: Padding = "black"
    token_padding: TokenPadding = "points"
    prompts: tuple[str, ...] = ("box", "points", "mask")
    hint: str = ""


_SAM = "https://dl.fbaipublicfiles.com/segment_anything/"
_SAM2 = "https://dl.fbaipublicfiles.com/segment_anything_2/092824/"
_EFFICIENT = "https://github.com/yformer/EfficientSAM/tree/main/weights"


def _sam(size: str, digits: str, megabytes: int) -> Family:
    name = f"sam_vit_{size}"
    file = f"{name}_{digits}.pth"
    return Family(
        f"sam-vit-{size}", 1024, file, megabytes, _SAM + file, fit="pad", padding="mean", hint=name
    )


def _sam2(size: str, name: str, megabytes: int) -> Family:
    file = f"sam2.1_hiera_{name}.pt"
    return Family(
        f"sam2-hiera-{size}", 1024, file, megabytes, _SAM2 + file,
        token_padding="always", hint=f"hiera_{name[0]}",
    )  # fmt: skip


FAMILIES: dict[str, Family] = {
    "sam-vit-b": _sam("b", "01ec64", 375),
    "sam-vit-l": _sam("l", "0b3195", 1250),
    "sam-vit-h": _sam("h", "4b8939", 2565),
    "medsam": Family(
        "medsam", 1024, "medsam_vit_b.pth", 375, "https://github.com/bowang-lab/MedSAM",
        prompts=("box",), hint="medsam",
    ),
    "sam-med2d": Family(
        "sam-med2d", 256, "sam-med2d_b.pth", 2400, "https://github.com/OpenGVLab/SAM-Med2D"
    ),
    "mobilesam": Family(
        "mobilesam", 1024, "mobile_sam.pt", 41,
        "https://github.com/ChaoningZhang/MobileSAM/tree/master/weights", fit="pad", padding="mean",
    ),
    "efficientsam-ti": Family(
        "efficientsam-ti", 1024, "efficient_sam_vitt.pt", 41, _EFFICIENT,
        token_padding="six", prompts=("box", "points"),
    ),
    "efficientsam-s": Family(
        "efficientsam-s", 1024, "efficient_sam_vits.pt", 106, _EFFICIENT,
        token_padding="six", prompts=("box", "points"),
    ),
    "sam2-hiera-t": _sam2("t", "tiny", 156),
    "sam2-hiera-s": _sam2("s", "small", 184),
    "sam2-hiera-b+": _sam2("b+", "base_plus", 324),
    "sam2-hiera-l": _sam2("l", "large", 898),
    "medsam2": Family(
        "sam2-hiera-t", 512, "MedSAM2_latest.pt", 156, "https://huggingface.co/wanglab/MedSAM2",
        licence="as stated there", token_padding="always", prompts=("box", "points", "mask"),
        hint="medsam2",
    ),
}  # fmt: skip
"""By name. SAM 2 and SAM 2.1 are the same network on single images and share a name."""

_PUBLISHED_FILES = {family.file: name for name, family in FAMILIES.items()}
_REFERENCE = re.compile(r"(?:(?P<family>[a-z0-9+-]+):)?(?P<path>.+?)(?:@(?P<size>\d{2,4}))?")


@dataclass(frozen=True)
class Reference:
    """What the user named: `path`, `family:path`, `path@size` or a family's name.

    Args:
        path: the file or Hugging Face folder, which need not exist for a family's name.
        family: a key of `FAMILIES` if it was said.
        size: side of the square in pixels if another than the published one is wanted.
    """

    path: Path
    family: str | None
    size: int | None


def refer(name: str) -> Reference | None:
    """Read a reference; None if it is no published checkpoint.

    >>> refer("medsam:weights.pth@512")
    Reference(path=PosixPath('weights.pth'), family='medsam', size=512)
    """
    found = _REFERENCE.fullmatch(name)
    if found is None:
        return None
    family, path, size = found["family"], found["path"], found["size"]
    if family is not None and family not in FAMILIES:
        family, path = None, f"{family}:{path}"
    if family is None and path in FAMILIES:
        family, path = path, str(cache_folder() / FAMILIES[path].file)
    where = Path(path)
    if path in _PUBLISHED_FILES and not where.exists():
        in_cache = cache_folder() / path
        where = in_cache if in_cache.is_file() else where
    folder = (where / "config.json").is_file() and any(weights_in(where))
    if family is None and where.suffix not in SUFFIXES and not folder:
        return None
    return Reference(where, family, int(size) if size else None)


def family_of(reference: Reference) -> str | None:
    """The family that was said, or the one whose published file has this name."""
    return reference.family or _PUBLISHED_FILES.get(reference.path.name)


def unknown_model(name: str | Path, problem: str) -> InputError:
    """What is said about a name that is no model: the nearest one, and what there is."""
    said, family = str(name), str(name).removesuffix(":")
    if said.endswith(":") and family in FAMILIES:
        file = f"{said}{FAMILIES[family].file}"
        remedy = f"add the file, e.g. {file}, or say {family} alone for the file in the cache"
        return InputError(said, "names a family, but no file", remedy)
    if nearest := meant(said.partition("@")[0].rstrip(":"), (*NAMED_MODELS, *FAMILIES)):
        return InputError(said, problem, f"{nearest} Else name a run, a bundle or a checkpoint")
    sizes: dict[str, list[str]] = {}
    for known in FAMILIES:
        kind, dash, size = known.rpartition("-") if "-" in known else (known, "", "")
        sizes.setdefault(kind + dash, []).append(size)
    group = ", ".join(kind + "/".join(each) for kind, each in sizes.items())
    named = (name for name in NAMED_MODELS if name not in UNTAUGHT)
    remedy = (
        f"name a run, a bundle, one of {', '.join(named)}, or a checkpoint of the SAM "
        f"family: a file, or {group}"
    )
    return InputError(said, problem, remedy)


def no_run(folder: Path, name: str) -> InputError:
    """Why a folder or name is no base: not there, another kind of run, or a folder around runs."""
    if not name or not folder.is_dir() or _holds_run(folder):
        return unknown_model(name, "is no base")
    if (folder / "config.yaml").is_file():
        problem = "holds a run that has no weights yet"
        return InputError(name, problem, "run the command that began it again")
    inside = sorted(str(child) for child in folder.iterdir() if _holds_run(child))
    known = f"one of {', '.join(NAMED_MODELS)}, a checkpoint or a folder made by distill"
    remedy = f"name one of {', '.join(inside[:5])}" if inside else f"name a run's folder, {known}"
    return InputError(name, "holds no run", remedy)


def _holds_run(folder: Path) -> bool:
    return any((folder / f"{kind}.json").is_file() for kind in ("adapter", "network", "base"))


def weights_in(folder: Path) -> list[Path]:
    """The weight files of a Hugging Face folder; a large model has several."""
    if not folder.is_dir():
        return []
    return sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
