"""Cache of teacher embeddings: 16-bit floats, one checksummed file per image, resumable, bounded."""

import hashlib
import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor
from torch.nn import functional as F

from samling.atomic import atomic_path
from samling.errors import InputError

_STALE_S = 600.0
"""A half-written file that is older belongs to nobody who still writes."""


def to_grid(embedding: Tensor, size: int) -> Tensor:
    """(B, C, h, w) -> (B, C, size, size): the rule when teacher and student differ in resolution.

    A finer teacher is averaged over the cells that fall into one cell of the student; a coarser one is
    interpolated bilinearly.
    """
    if embedding.shape[-1] >= size:
        return F.adaptive_avg_pool2d(embedding, size)
    return F.interpolate(embedding, [size, size], mode="bilinear", align_corners=False)


class EmbeddingCache:
    """Embeddings of one teacher on one grid, in a folder of their own.

    A file's name is the hash of the image it belongs to, so stores can share a cache. Files that are
    damaged (checksum) or unreadable count as missing and are computed again. Any number of processes
    may fill one cache: each goes in an order of its own and passes over what another has written.

    Args:
        root: the cache folder.
        teacher: name of the teacher and of all that decides what it sees; another name, another folder.
        grid: side of the embeddings kept, see `to_grid`.
        kind: what is kept beside or instead of the embedding; another kind, another folder.
    """

    def __init__(self, root: Path, teacher: str, grid: int, kind: str = "") -> None:
        self.root = root
        self.folder = root / "-".join(filter(None, (teacher, str(grid), kind)))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.grid = grid

    def path(self, plane: NDArray[np.uint8]) -> Path:
        """Where the embedding of this (S, S) model input lives."""
        digest = hashlib.sha256(np.ascontiguousarray(plane).tobytes()).hexdigest()
        return self.folder / f"{digest[:32]}.safetensors"

    def read(self, plane: NDArray[np.uint8]) -> NDArray[np.float16] | None:
        """(C, grid, grid), or None if it is missing or damaged."""
        try:
            with safe_open(self.path(plane), framework="np") as stream:
                checksum = (stream.metadata() or {}).get("crc32")
                embedding = stream.get_tensor("embedding")
        except (FileNotFoundError, SafetensorError, OSError):
            return None
        intact = checksum == _checksum(embedding) and embedding.dtype == np.float16
        return embedding if intact else None

    def write(self, plane: NDArray[np.uint8], embedding: NDArray[np.float16]) -> None:
        """Keep (C, grid, grid), whole or not at all."""
        embedding = np.ascontiguousarray(embedding, dtype=np.float16)
        metadata = {"crc32": _checksum(embedding)}
        with atomic_path(self.path(plane)) as temporary:
            temporary.write_bytes(save({"embedding": embedding}, metadata))

    def fill(
        self,
        planes: NDArray[np.uint8],
        encode: Callable[[Tensor], Tensor],
        *,
        view: Callable[[int], Tensor] | None = None,
        batch_size: int = 1,
        advance: Callable[[int, int], None] = lambda done, total: None,
    ) -> int:
        """Compute what is missing for planes (N, S, S); return how many were computed.

        Args:
            encode: (B, 1, T, T) -> (B, C, h, w), without gradients.
            view: what `encode` gets of a plane, by its index: (1, T, T); else the plane, in [0, 1].
            advance: called with (done, total) after every batch.
        """
        missing = [index for index, plane in enumerate(planes) if self.read(plane) is None]
        order = np.random.default_rng(os.getpid()).permutation(missing).tolist()
        computed = 0
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            chosen = [index for index in batch if self.read(planes[index]) is None]
            if chosen:
                if view is None:
                    images = torch.from_numpy(planes[chosen]).unsqueeze(1).float() / 255
                else:
                    images = torch.stack([view(index) for index in chosen])
                embeddings = to_grid(encode(images).float(), self.grid).half().cpu().numpy()
                for index, embedding in zip(chosen, embeddings, strict=True):
                    self.write(planes[index], embedding)
            computed += len(chosen)
            advance(start + len(batch), len(order))
        return computed

    def make_room(self, planes: NDArray[np.uint8], channels: int, limit: int) -> None:
        """Delete what was written longest ago for other teachers until what is missing fits.

        What killed writers left half-written goes, too.

        Args:
            planes: (N, S, S), what `fill` will get.
            channels: of an embedding. limit: bytes that all caches under one root may take.

        Raises:
            InputError: this teacher's own files would not fit; nothing was deleted.
        """
        _clear(self.root)
        missing = sum(not self.path(plane).exists() for plane in planes)
        needed = missing * (channels * self.grid**2 * 2 + 256)
        files = list(_sizes(self.root))
        used = sum(stat.st_size for stat, _ in files)
        others = [(stat, path) for stat, path in files if path.parent != self.folder]
        spare = sum(stat.st_size for stat, _ in others)
        if used - spare + needed > limit:
            problem = f"needs {(used - spare + needed) / 1e9:.1f} GB, allowed are {limit / 1e9:.1f}"
            raise InputError(
                self.folder, problem, "set SAMLING_CACHE_GB higher, or use fewer images"
            )
        for stat, path in sorted(others, key=lambda entry: entry[0].st_mtime):
            if used + needed <= limit:
                return
            path.unlink(missing_ok=True)
            used -= stat.st_size


def _clear(root: Path) -> None:
    """Remove what writers left half-written when they were killed."""
    for path in root.glob("*/.*.part"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _STALE_S:
                path.unlink()


def _sizes(root: Path) -> Iterator[tuple[os.stat_result, Path]]:
    for path in root.glob("*/*.safetensors"):
        with suppress(FileNotFoundError):  # another process makes room, too
            yield path.stat(), path


def _checksum(embedding: NDArray[np.float16]) -> str:
    return str(zlib.crc32(embedding.tobytes()))
