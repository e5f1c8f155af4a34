"""doctor: what this machine can do, how fast, and what is wrong with a data set. Writes nothing."""

import os
import platform
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from samling.cache import WEIGHT_FILES, cache_folder
from samling.data.splits import fold_in
from samling.errors import InputError
from samling.inference.segmenter import Segmenter
from samling.prompts.prompt import Prompt
from samling.recipes.fetch import PUBLISHED, is_published

CORE = ("samling", "numpy", "opencv-python-headless", "pillow", "pydicom", "onnxruntime")
_RUNS = 3
_FRAME = (480, 640)


@dataclass(frozen=True)
class Section:
    """A heading and what was found, as pairs of a name and a sentence."""

    title: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class DoctorReport:
    """Everything doctor found.

    Args:
        data: report of the checks of `prepare`, "" without a data set.
        errors: how many of its files cannot be used.
    """

    sections: tuple[Section, ...]
    data: str = ""
    errors: int = 0

    def text(self) -> str:
        """One screen for people."""
        names = [name for section in self.sections for name, _ in section.rows]
        width = max(map(len, names), default=0) + 2
        lines: list[str] = []
        for section in self.sections:
            lines += [section.title, *(f"  {name:<{width}}{said}" for name, said in section.rows)]
        return "\n".join(lines + ([self.data] if self.data else []))

    __str__ = text


def examine(data: Sequence[Path]) -> DoctorReport:
    """`doctor` for one data set or none; for stores, every picture that is in two places.

    Raises:
        InputError: as in `doctor`; several data sets that are no stores.
    """
    if not data or fold_in(data[0])[0].suffix != ".h5":
        if len(data) > 1:
            raise InputError(
                data[1], "is one too many", "give one data set, or several stores (.h5)"
            )
        return doctor(*data)
    from samling.recipes.leaks import between_stores

    leaks = between_stores(list(data))
    return DoctorReport((), "\n".join(map(str, leaks)), sum(len(leak.pairs) for leak in leaks))


def doctor(data: Path | None = None) -> DoctorReport:
    """Look at the machine, the installation, the weights and the speed, or at a data set.

    Args:
        data: a data set to check as `prepare` does, or a bundle to time.

    Raises:
        InputError: the data set has nothing usable, or the bundle is damaged.
    """
    from samling.inference.bundle import is_bundle

    bundle = data if data is not None and is_bundle(data) else None
    if data is not None and bundle is None:
        from samling.recipes.prepare import check

        found = check(data)
        errors = sum(problem.severity == "error" for problem in found.problems)
        return DoctorReport((), found.text(), errors)
    sections = [
        Section("machine", tuple(_machine())),
        Section("installed", tuple(_installed())),
        Section("weights", tuple(_weights())),
        Section("seconds per image (640 x 480, one box)", tuple(_speed(bundle))),
    ]
    return DoctorReport(tuple(sections))


def _machine() -> Iterator[tuple[str, str]]:
    affinity = getattr(os, "sched_getaffinity", None)
    usable = len(affinity(0)) if affinity else os.cpu_count()
    yield "processor", f"{_processor()}, {usable} of {os.cpu_count()} cores usable"
    memory = memory_bytes()
    yield "memory", f"{memory / 2**30:.1f} GiB" if memory else "unknown"
    yield "system", f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    yield "graphics", _graphics()
    yield "bfloat16", _bfloat16()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def memory_bytes() -> int | None:
    """Memory this process may use: the machine's, or less if a container limits it."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdecimal() else total


def _graphics() -> str:
    if find_spec("torch") is None:
        return "not looked for: PyTorch is not installed"
    import torch

    if not torch.cuda.is_available():
        return "none that PyTorch can use: everything runs on the processor"
    return ", ".join(torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count()))


def _bfloat16() -> str:
    """What `training.precision=auto` comes to here."""
    if find_spec("torch") is None:
        return "not looked for: PyTorch is not installed"
    import torch

    from samling.training.loop import best_precision

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if best_precision(device) == "bf16":
        return "multiplied fast here: training uses it"
    return "not multiplied fast here: training uses float32"


def _installed() -> Iterator[tuple[str, str]]:
    yield "core", ", ".join(f"{name} {_version(name) or 'MISSING'}" for name in CORE)
    for extra, names in _extras().items():
        missing = [name for name in names if _version(name) is None]
        there = ", ".join(f"{name} {_version(name)}" for name in names if name not in missing)
        advice = f"; missing: {', '.join(missing)} (pip install '.[{extra}]')"
        yield f"[{extra}]", (there or "nothing") + (advice if missing else "")


def _extras() -> dict[str, tuple[str, ...]]:
    """Packages of every extra a user may want, as the installed package declares them."""
    found: dict[str, list[str]] = {}
    for line in requires("samling") or ():
        package, _, marker = line.partition(";")
        extra = re.search(r"extra == ['\"](\w+)['\"]", marker)
        name = re.match(r"[\w.-]+", package.strip())
        if extra and name and extra[1] not in ("dev", "all"):
            found.setdefault(extra[1], []).append(name[0])
    return {extra: tuple(names) for extra, names in found.items()}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _weights() -> Iterator[tuple[str, str]]:
    yield "base, base-tiny", "come with samling"
    for name, published in PUBLISHED.items():
        path = cache_folder() / WEIGHT_FILES[name]
        if not path.exists():
            yield name, f"not here; get them with `samling fetch {name}`"
        elif is_published(path, published):
            yield name, f"{path}, SHA-256 verified, {published.licence}"
        else:
            yield name, f"{path} is DAMAGED (SHA-256 differs); run `samling fetch {name}`"


def _speed(bundle: Path | None) -> Iterator[tuple[str, str]]:
    from samling.recipes.load import load

    if bundle is not None:
        yield bundle.name, _timed(load(bundle))
        return
    if any(find_spec(name) is None for name in ("torch", "transformers", "safetensors")):
        yield "not measured", "needs samling[train], or a bundle: samling doctor BUNDLE"
        return
    for name in ("base", "base-tiny"):
        try:
            yield name, f"{_timed(load(name))} in PyTorch"
        except InputError as error:  # go on: the rest of the machine is worth knowing, too
            yield name, f"DAMAGED: {error}"
    published = PUBLISHED["litemedsam"]
    if is_published(cache_folder() / WEIGHT_FILES["litemedsam"], published):
        yield "litemedsam", f"{_timed(load('litemedsam'))} in PyTorch"


def _timed(segmenter: Segmenter) -> str:
    """Median of three images, after one to warm up; and of a further prompt on the same image."""
    image = np.random.default_rng(0).integers(0, 256, _FRAME, dtype=np.uint8)
    pointed = "box" in segmenter.card.prompts
    prompt = Prompt(box=np.array([200.0, 150.0, 400.0, 330.0])) if pointed else Prompt()
    encoding: list[float] = []
    decoding: list[float] = []
    for number in range(1 + _RUNS):
        image[0, 0] = number  # else a bundle remembers the image
        started = time.perf_counter()
        encoded = segmenter.encode(image)
        middle = time.perf_counter()
        segmenter.segment_encoded(encoded, [prompt])
        encoding.append(middle - started)
        decoding.append(time.perf_counter() - middle)
    first, further = np.median(encoding[1:]), np.median(decoding[1:])
    return f"{first + further:.3f}, a further prompt {further:.3f}"
