"""Bundle: a folder or zip with encoder, decoder, card.json and README.md, read with bounds.

The decoder is ONNX. So is the encoder, or it is in OpenVINO's own form: a graph and its weights apart.
"""

import zipfile
from collections.abc import Container
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from samling.errors import InputError
from samling.inference.card import Card

ENCODER, DECODER, CARD, README = "encoder.onnx", "decoder.onnx", "card.json", "README.md"
OPENVINO_ENCODER, OPENVINO_WEIGHTS = "encoder.xml", "encoder.bin"
BUNDLE_NAMES = (ENCODER, OPENVINO_ENCODER, OPENVINO_WEIGHTS, DECODER, CARD, README)

_MEBIBYTE = 1 << 20
_LIMITS = {
    ENCODER: 2048 * _MEBIBYTE,
    OPENVINO_ENCODER: 64 * _MEBIBYTE,
    OPENVINO_WEIGHTS: 2048 * _MEBIBYTE,
    DECODER: 512 * _MEBIBYTE,
    CARD: _MEBIBYTE,
}
_MEMBERS_AT_MOST = 64
_RATIO_AT_MOST = 200  # weights hardly compress; more is a bomb


class Bundle(NamedTuple):
    """A bundle's content: two models as bytes, and how to feed them.

    Args:
        encoder: ONNX; with `weights` a graph in OpenVINO's own form.
        decoder: ONNX.
        card: how they are fed.
        weights: of an encoder in OpenVINO's form; empty: it is ONNX.
    """

    encoder: bytes
    decoder: bytes
    card: Card
    weights: bytes = b""


def is_bundle(path: str | Path) -> bool:
    """True for a zip file and for a folder that holds an exported encoder or decoder."""
    path = Path(path)
    if path.is_dir():
        return any((path / name).exists() for name in (ENCODER, OPENVINO_ENCODER, DECODER))
    return path.is_file() and zipfile.is_zipfile(path) and path.suffix.lower() == ".zip"


def read_bundle(path: str | Path) -> Bundle:
    """Read a bundle into memory; nothing is ever extracted to disk.

    Raises:
        InputError: not a bundle, incomplete, damaged, too large, or with members outside itself.
    """
    path = Path(path)
    parts = _from_folder(path) if path.is_dir() else _from_zip(path)
    card = Card.parse(path / CARD, parts[CARD])
    if OPENVINO_ENCODER in parts:
        if not parts[OPENVINO_WEIGHTS]:
            raise InputError(path, f"holds an empty {OPENVINO_WEIGHTS}", "export it again")
        return Bundle(parts[OPENVINO_ENCODER], parts[DECODER], card, parts[OPENVINO_WEIGHTS])
    return Bundle(parts[ENCODER], parts[DECODER], card)


def _wanted(there: Container[str]) -> tuple[str, ...]:
    """The files that make a bundle, given what is there."""
    if OPENVINO_ENCODER in there:
        return OPENVINO_ENCODER, OPENVINO_WEIGHTS, DECODER, CARD
    return ENCODER, DECODER, CARD


def _from_folder(path: Path) -> dict[str, bytes]:
    parts: dict[str, bytes] = {}
    for name in _wanted({file.name for file in path.iterdir()}):
        file, limit = path / name, _LIMITS[name]
        if not file.is_file():
            raise InputError(path, f"is an incomplete bundle: {name} is missing", "export it again")
        if file.stat().st_size > limit:
            raise InputError(file, f"is larger than {limit // _MEBIBYTE} MiB", "export it again")
        parts[name] = file.read_bytes()
    return parts


def _from_zip(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(path, archive)
            return {name: _read(path, archive, entry) for name, entry in members.items()}
    except FileNotFoundError:
        raise InputError(path, "does not exist", "name a run, a bundle or a known model") from None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise InputError(path, f"is not a readable zip ({error})", "export it again") from error


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The known files, all at the top or all in one folder; whatever else is there is not read."""
    entries = archive.infolist()
    if len(entries) > _MEMBERS_AT_MOST:
        raise InputError(
            path, f"holds {len(entries)} files, far more than a bundle", "export it again"
        )
    found: dict[str, zipfile.ZipInfo] = {}
    folders: set[PurePosixPath] = set()
    for entry in entries:
        name = PurePosixPath(entry.filename)
        if name.is_absolute() or ".." in name.parts or "\\" in entry.filename:
            problem = f"holds a file that points outside it ({entry.filename!r})"
            raise InputError(path, problem, "do not use this file; export the model yourself")
        if name.name not in _LIMITS or len(name.parts) > 2:
            continue
        if name.name in found:
            raise InputError(path, f"holds {name.name} twice", "export it again")
        found[name.name] = entry
        folders.add(name.parent)
    wanted = _wanted(found)
    missing = [name for name in wanted if name not in found]
    if missing or len(folders) > 1:
        problem = f"is no bundle: {', '.join(missing) or 'its files lie in several folders'}"
        raise InputError(path, problem + " missing" * bool(missing), "export it again")
    return {name: found[name] for name in wanted}


def _read(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    limit = _LIMITS[PurePosixPath(entry.filename).name]
    inflated = entry.file_size > _RATIO_AT_MOST * max(entry.compress_size, 1)
    if entry.file_size > limit or (inflated and entry.file_size > _MEBIBYTE):
        problem = f"{entry.filename} claims {entry.file_size} bytes unpacked"
        raise InputError(path, problem, "do not use this file; export the model yourself")
    with archive.open(entry) as stream:
        return stream.read(limit)
