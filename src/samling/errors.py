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
        super().__init__(f"{self.where}: {self.problem}. Remedy: {self.remedy}.")

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, str, str]]:
        """Errors travel from worker processes by pickle, which calls the class anew."""
        return type(self), (self.where, self.problem, self.remedy)


def meant(name: str, known: Iterable[str]) -> str:
    """A question that starts a remedy, where one of `known` is spelt nearly like `name`.

    >>> meant("litmedsam", ["base", "litemedsam"]), meant("x", ["base"])
    ('did you mean litemedsam? Else ', '')
    """
    nearest = get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"did you mean {nearest[0]}? Else " if nearest else ""


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
