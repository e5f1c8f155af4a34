"""The one error a user is meant to read: what is wrong, where, and what to do about it."""

import errno
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

EXTRA_OF = {
    **dict.fromkeys(
        ("torch", "transformers", "h5py", "safetensors", "tensorboard", "matplotlib"), "train"
    ),
    **dict.fromkeys(("onnx", "onnxscript"), "export"),
    **dict.fromkeys(("nibabel", "SimpleITK", "highdicom"), "volumes"),
    "skimage": "train",
    "monai": "baselines",
}
"""Which extra of the package brings a module that is missing."""


class InputError(Exception):
    """Unusable input or wrong use. The command line prints it in one line and exits with 2.

    Args:
        where: the file, folder, field or option at fault.
        problem: what is wrong with it, in words a user understands.
        remedy: what to do about it.

    >>> str(InputError("a.png", "is truncated", "export it again"))
    'a.png: is truncated. Remedy: export it again.'
    """

    def __init__(self, where: str | Path, problem: str, remedy: str) -> None:
        self.where = str(where)
        self.problem = problem.rstrip(".")
        self.remedy = remedy.rstrip(".")
        end = "" if self.remedy.endswith("?") else "."
        super().__init__(f"{self.where}: {self.problem}. Remedy: {self.remedy}{end}")

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, str, str]]:
        """Errors travel from worker processes by pickle, which calls the class anew."""
        return type(self), (self.where, self.problem, self.remedy)


def meant(name: str, known: Iterable[str]) -> str:
    """A question to remedy a typing error, where one of `known` is spelt nearly like `name`.

    >>> meant("LitMedSAM", ["base", "litemedsam"]), meant("x", ["base"])
    ('did you mean litemedsam?', '')
    """
    small = {one.lower(): one for one in known}
    nearest = get_close_matches(name.lower(), small, n=1, cutoff=0.7)
    return f"did you mean {small[nearest[0]]}?" if nearest else ""


def one_of(name: str, known: Iterable[str], see: str = "") -> str:
    """The remedy for a name that is none of `known`: the nearest one, or else all of them.

    Args:
        see: the command that lists them all, for whom the nearest one is not what they meant.

    >>> one_of("nnuet", ["unet", "nnunet"], "samling recipes"), one_of("x", ["unet", "nnunet"])
    ('did you mean nnunet? Else see samling recipes', 'use one of unet, nnunet')
    """
    names = list(known)
    nearest = meant(name, names)
    if not nearest:
        return f"use one of {', '.join(names)}"
    return f"{nearest} Else see {see}" if see else nearest


def explain_machine(error: Exception) -> str | None:
    """One line for what the machine lacks (a package, space, a file); None for a fault of ours."""
    if isinstance(error, ModuleNotFoundError):
        module = (error.name or "").partition(".")[0]
        extra = EXTRA_OF.get(module)
        text = f"this needs samling[{extra}] ({module} is not installed). Remedy: "
        return (
            text + f"pip install '.[{extra}]' in the folder of samling's source." if extra else None
        )
    if not isinstance(error, OSError):
        return None
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}the disk is full. Remedy: free some space and run the same command again."
    if error.filename is None or error.strerror is None:
        return None
    return f"{error.filename}: {error.strerror}. Remedy: check the path and its permissions."
