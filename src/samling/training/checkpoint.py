"""Checkpoints that survive a crash at any moment, and the lock of a run folder."""

import fcntl
import io
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from samling.atomic import atomic_path
from samling.errors import InputError


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values, whole or not at all.

    Raises:
        OSError: the disk is full. (Written from memory: torch.save itself would hide the reason.)
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """The checkpoint, or None if there is none yet.

    Raises:
        InputError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load itself compares no checksum
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(damaged)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        remedy = "delete it to start this run again from the beginning"
        raise InputError(path, "is not a readable checkpoint", remedy) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder for one process; the lock dies with the process.

    Raises:
        InputError: another process writes there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            remedy = "wait for it or choose another --out"
            raise InputError(folder, "another process is writing this run", remedy) from None
        for leftover in folder.rglob(".*.part"):  # of a writer that was killed
            leftover.unlink(missing_ok=True)
        stream.write(str(os.getpid()))
        stream.flush()
        yield
