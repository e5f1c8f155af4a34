"""Write a bundle, as a folder or a zip: whole or not at all."""

import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from samling.atomic import atomic_path
from samling.errors import InputError
from samling.inference.bundle import (
    BUNDLE_NAMES,
    CARD,
    DECODER,
    ENCODER,
    OPENVINO_ENCODER,
    OPENVINO_WEIGHTS,
    README,
    Bundle,
)


def write_bundle(bundle: Bundle, readme: str, out: str | Path) -> None:
    """Write to a temporary place beside `out` and rename it.

    Raises:
        InputError: `out` holds anything but an earlier bundle, or cannot be written.
    """
    out = Path(out)
    encoder = {ENCODER: bundle.encoder}
    if bundle.weights:
        encoder = {OPENVINO_ENCODER: bundle.encoder, OPENVINO_WEIGHTS: bundle.weights}
    parts = {
        **encoder,
        DECODER: bundle.decoder,
        README: readme.encode(),
        CARD: (bundle.card.model_dump_json(indent=2) + "\n").encode(),
    }
    check_target(out)
    try:
        if out.suffix.lower() == ".zip":
            _write_zip(parts, out)
        else:
            _write_folder(parts, out)
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = "free space or name another place"
        raise InputError(out, f"cannot be written ({reason})", remedy) from error


def check_target(out: Path) -> None:
    """Refuse a target that is not free and not an earlier bundle.

    Raises:
        InputError: it would overwrite something else.
    """
    if out.suffix.lower() == ".zip":
        if out.is_dir():
            raise InputError(out, "is a folder", "name a zip file, or a folder without .zip")
        return
    if out.is_file():
        raise InputError(out, "is a file", "name a folder, or a file that ends with .zip")
    strangers = (
        sorted(p.name for p in out.iterdir() if p.name not in BUNDLE_NAMES) if out.is_dir() else []
    )
    if strangers:
        problem = f"holds other files ({', '.join(strangers[:3])})"
        raise InputError(out, problem, "name a new folder, or one with an earlier bundle alone")


def _write_folder(parts: dict[str, bytes], out: Path) -> None:
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    old = new.with_suffix(".old")
    try:
        for name, content in parts.items():
            with (new / name).open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        new.chmod(0o755)
        if out.exists():
            out.rename(old)
        new.rename(out)
    except BaseException:
        if old.exists() and not out.exists():
            old.rename(out)
        raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _write_zip(parts: dict[str, bytes], out: Path) -> None:
    with atomic_path(out) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, content in parts.items():
            # a fixed date: the same model gives the same bytes
            entry = zipfile.ZipInfo(name, date_time=(2020, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
