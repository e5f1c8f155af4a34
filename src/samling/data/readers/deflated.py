"""A deflated DICOM file is inflated piece by piece, without keeping it, to know its size."""

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

from samling.errors import InputError

DEFLATED = "1.2.840.10008.1.2.1.99"
MAX_INFLATED_BYTES = 128 << 20
_PIECE = 1 << 16
_LONG = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UN", b"UR", b"UT")


def check_deflated(where: str | Path, file: BinaryIO) -> None:
    """Refuse deflated files that grow beyond `MAX_INFLATED_BYTES`: readers inflate without limit.

    Args:
        where: for the message. file: at any position; it is left at the start.

    Raises:
        InputError: it is such a file.
    """
    file.seek(0)
    start = file.read(132)
    file.seek(132 if start[128:] == b"DICM" else 0)
    if _transfer_syntax(file) == DEFLATED and _inflated_exceeds(file, MAX_INFLATED_BYTES):
        problem = f"inflates to more than {MAX_INFLATED_BYTES >> 20} MiB"
        raise InputError(where, problem, "save it in another transfer syntax")
    file.seek(0)


def _transfer_syntax(file: BinaryIO) -> str:
    """Walk the elements of group 2 (always explicit, little endian); leave the file after them."""
    found = ""
    while len(head := file.read(8)) == 8:
        group, element, kind, length = struct.unpack("<HH2sH", head)
        if group != 2:
            file.seek(-8, 1)
            break
        if kind in _LONG:
            length = struct.unpack("<I", file.read(4).ljust(4, b"\0"))[0]
        value = file.read(min(length, 1 << 20))
        if element == 0x10:
            found = value.rstrip(b"\0 ").decode("ascii", "replace")
    return found


def _inflated_exceeds(file: BinaryIO, limit: int) -> bool:
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    total = 0
    try:
        while piece := inflate.unconsumed_tail or file.read(_PIECE):
            total += len(inflate.decompress(piece, _PIECE))
            if total > limit:
                return True
            if inflate.eof:
                return False
    except zlib.error:
        return False  # the reader will say what is wrong
    return False
