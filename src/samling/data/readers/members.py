"""Members: the files of a folder or a zip, zips inside included; read into memory, never unpacked."""

import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from samling.errors import InputError

MAX_MEMBER_BYTES = 512 << 20
MAX_MEMBERS = 100_000
_DEEPEST = 2  # a zip of patients may hold a zip per region


@dataclass(frozen=True)
class Member:
    """One file, wherever it lies.

    Args:
        name: below the root, with `/`; the name of a zip inside counts as its folder.
        where: for messages.
        read: its bytes, at most `MAX_MEMBER_BYTES`; InputError if it cannot be read.
    """

    name: str
    where: str
    read: Callable[[], bytes]

    @property
    def folders(self) -> tuple[str, ...]:
        """Names of the folders above it, outermost first."""
        return PurePosixPath(self.name).parts[:-1]


def is_zip(path: Path) -> bool:
    """True for an existing file that is a zip by content."""
    return path.is_file() and zipfile.is_zipfile(path)


def members_of(root: Path) -> list[Member]:
    """All files below a folder or in a zip, hidden ones left out, in the order of their names.

    Raises:
        InputError: missing, no folder and no zip, damaged, too large, or a zip whose names point
            outside of it.
    """
    if not root.exists():
        raise InputError(root, "does not exist", "check the path")
    if not root.is_dir() and not is_zip(root):
        raise InputError(root, "is no folder and no zip", "name one of these")
    found: list[Member] = []
    for member in _folder(root) if root.is_dir() else _zip(root, "", str(root), 0):
        found.append(member)
        if len(found) > MAX_MEMBERS:
            raise InputError(root, f"holds more than {MAX_MEMBERS} files", "name a folder inside")
    return sorted(found, key=lambda member: member.name)


def _folder(root: Path) -> Iterator[Member]:
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if any(part.startswith(".") for part in PurePosixPath(name).parts) or not path.is_file():
            continue
        if path.suffix.lower() == ".zip":
            yield from _zip(path, name.removesuffix(path.suffix), str(path), 0)
        else:
            yield Member(name, str(path), lambda path=path: _read_file(path))  # type: ignore[misc]


def _read_file(path: Path) -> bytes:
    try:
        _check_size(str(path), path.stat().st_size)
        return path.read_bytes()
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error})"
        raise InputError(path, problem, "check the path and its rights") from error


def _zip(source: Path | io.BytesIO, above: str, where: str, depth: int) -> Iterator[Member]:
    try:
        archive = zipfile.ZipFile(source)
        entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise InputError(where, f"is not a readable zip ({error})", "download it again") from error
    top = PurePosixPath(above).name
    for entry in entries:
        inner = PurePosixPath(entry.filename)
        if inner.is_absolute() or ".." in inner.parts or "\\" in entry.filename:
            problem = f"holds a file that points outside of it ({entry.filename!r})"
            raise InputError(where, problem, "do not use this file; download it again")
        if entry.is_dir() or any(part.startswith((".", "__MACOSX")) for part in inner.parts):
            continue
        # PATIENT_DICOM.zip usually holds PATIENT_DICOM/...: one folder, not two
        parts = inner.parts[1:] if len(inner.parts) > 1 and inner.parts[0] == top else inner.parts
        name = str(PurePosixPath(above, *parts))
        shown = f"{where}!{entry.filename}"
        if inner.suffix.lower() == ".zip" and depth < _DEEPEST:
            content = io.BytesIO(_read_entry(archive, entry, shown))
            yield from _zip(content, name.removesuffix(inner.suffix), shown, depth + 1)
        else:
            yield Member(
                name,
                shown,
                lambda a=archive, e=entry, s=shown: _read_entry(a, e, s),  # type: ignore[misc]
            )


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, where: str) -> bytes:
    _check_size(where, entry.file_size)
    try:
        with archive.open(entry) as stream:  # stops at the size that was claimed
            return stream.read(MAX_MEMBER_BYTES)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, EOFError) as error:
        raise InputError(where, f"cannot be unpacked ({error})", "download it again") from error
    except Exception as error:  # zlib.error, lzma.LZMAError: whatever damaged bytes bring about
        raise InputError(where, f"is damaged ({error})", "download it again") from error


def _check_size(where: str, size: int) -> None:
    if size > MAX_MEMBER_BYTES:
        problem = f"has {size >> 20} MiB"
        raise InputError(where, problem, f"give at most {MAX_MEMBER_BYTES >> 20}")
