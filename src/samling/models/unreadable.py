"""Why a file cannot be read as a checkpoint: another kind of file, cut short, or more than weights."""

import re
import zipfile
from pathlib import Path

from samling.errors import InputError

_ENDS_EARLY = re.compile(
    r"unexpected EOF|Ran out of input|out of range|truncated|requires a buffer"
    r"|header too small|invalid header length|incomplete metadata"
)
"""What PyTorch, pickle and safetensors say where a file ends before its content does."""
_FOREIGN = re.compile(r"GLOBAL ((?:\w+\.)+\w+)")
AGAIN = "download or copy it again"


def unreadable(file: Path, error: Exception, megabytes: int | None = None) -> InputError:
    """What to tell the user about a file that PyTorch or safetensors could not read.

    Their own text is not passed on where it advises to load without the check that keeps a
    checkpoint from running code.

    Args:
        file: it exists.
        error: what they raised.
        megabytes: about how large the file is as published, where that is known.
    """
    head, text = _beginning(file), str(error)
    is_zip, is_pickle = head.startswith(b"PK"), head.startswith(b"\x80")
    if line := _as_text(head):
        return InputError(file, f"is no checkpoint: it begins with '{line}'", AGAIN)
    if _is_cut(file, head, error):
        should = f" instead of about {megabytes} MB" if megabytes else ""
        return InputError(file, f"is cut short: it has {_size(file)}{should}", AGAIN)
    if "TorchScript" in text:
        problem = "is a TorchScript program, not weights"
        return InputError(file, problem, "give the weights it was made from")
    if is_zip and not _holds_pickle(file):
        return InputError(file, "is a zip, but no checkpoint", "name the file of the weights")
    if (is_zip or is_pickle) and "weights_only" in text:
        found = _FOREIGN.search(text)
        what = f" ({found[1]})" if found else ""
        problem = f"is a pickle that holds more than weights{what}; such a file can run code"
        remedy = "ask its author for the weights alone (a state_dict, or .safetensors)"
        return InputError(file, problem, remedy)
    if not (is_zip or is_pickle or file.suffix == ".safetensors"):
        problem = f"is no checkpoint: it begins with the bytes {head[:4].hex(' ')}"
        return InputError(file, problem, AGAIN)
    reason = text.splitlines()[0][:200] if text and "weights_only" not in text else ""
    problem = f"is not a readable checkpoint ({reason or type(error).__name__})"
    return InputError(file, problem, AGAIN)


def _beginning(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(200)


def _as_text(head: bytes) -> str:
    """The first words, if these bytes are text; else nothing."""
    line = head.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")[0].rstrip()[:40]
    text = line.decode("utf-8", "replace").rstrip("\ufffd")  # a letter cut in two
    return text if len(text) > 3 and "\ufffd" not in text and text.isprintable() else ""


def _is_cut(file: Path, head: bytes, error: Exception) -> bool:
    if head.startswith(b"PK"):
        return not zipfile.is_zipfile(file)  # the table of contents is at its end
    known = len(head) < 8 or head.startswith(b"\x80") or file.suffix == ".safetensors"
    return known and (isinstance(error, EOFError) or _ENDS_EARLY.search(str(error)) is not None)


def _holds_pickle(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _size(file: Path) -> str:
    size = file.stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size} bytes"
