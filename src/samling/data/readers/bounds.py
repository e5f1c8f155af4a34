"""What a file may claim before it is decoded: its size, its pixels, its kind."""

import math
from pathlib import Path

from samling.errors import InputError

MAX_FILE_BYTES = 1 << 30
MAX_PIXELS = 50_000_000
MAX_VOXELS = 700_000_000
HEAD_BYTES = 140

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"BM", "BMP"),
)
# Files written without a preamble begin with an early element of group 2 or group 8.
_BARE_GROUPS = (b"\x02\x00", b"\x08\x00")
_BARE_ELEMENTS = (0x00, 0x01, 0x05, 0x08, 0x12, 0x14, 0x16, 0x18)


def read_head(path: Path) -> bytes:
    """First bytes of a file that exists, is a file, is not empty and is not absurdly large.

    Raises:
        InputError: it is not so, or it cannot be opened.
    """
    try:
        if path.is_dir():
            raise InputError(path, "is a folder", "name a file")
        size = path.stat().st_size
        if size == 0:
            raise InputError(path, "is empty (0 bytes)", "copy it again from its source")
        if size > MAX_FILE_BYTES:
            raise InputError(path, f"has {size >> 20} MiB", f"give at most {MAX_FILE_BYTES >> 20}")
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except FileNotFoundError:
        raise InputError(path, "does not exist", "check the path") from None
    except (OSError, ValueError) as error:
        raise InputError(
            path, f"cannot be opened ({error})", "check the path and rights"
        ) from error


def kind_of(head: bytes) -> str | None:
    """'PNG', 'JPEG', 'TIFF', 'BMP' or 'DICOM' by the first bytes of a file; None if none of them.

    >>> kind_of(b"BM....")
    'BMP'
    """
    bare = head[:2] in _BARE_GROUPS and head[3:4] == b"\0" and head[2] in _BARE_ELEMENTS
    if head[128:132] == b"DICM" or bare:
        return "DICOM"
    return next((kind for magic, kind in _SIGNATURES if head.startswith(magic)), None)


def check_pixels(path: Path, height: int, width: int) -> None:
    """Refuse planes without pixels and planes of more than `MAX_PIXELS`.

    Raises:
        InputError: naming the size.
    """
    if height < 1 or width < 1:
        raise InputError(path, f"claims {height} x {width} pixels", "export the image again")
    if height * width > MAX_PIXELS:
        problem = f"has {height} x {width} pixels, more than {MAX_PIXELS // 1_000_000} million"
        raise InputError(path, problem, "scale the image down or cut it")


def check_voxels(where: str | Path, shape: tuple[int, ...]) -> None:
    """Refuse volumes without voxels and volumes of more than `MAX_VOXELS`.

    Raises:
        InputError: naming the size.
    """
    size = " x ".join(map(str, shape))
    if min(shape) < 1:
        raise InputError(where, f"claims {size} voxels", "export it again")
    if math.prod(shape) > MAX_VOXELS:
        problem = f"has {size} voxels, more than {MAX_VOXELS // 1_000_000} million"
        raise InputError(where, problem, "cut the volume or scale it down")
