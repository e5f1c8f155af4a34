"""predict: masks, overlays and measurements for images, folders, DICOM and volumes, by any model."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import samling
from samling.data.intensity import window_of
from samling.data.readers.bounds import kind_of, read_head
from samling.data.readers.image import SUFFIXES
from samling.data.readers.plane import ImagePlane, read_any
from samling.errors import InputError
from samling.inference.card import Card
from samling.inference.dicom_seg import Author, write_seg
from samling.inference.results import ResultFolder
from samling.inference.segmenter import EncodedImage, Object, Segmenter
from samling.inference.volume_results import VolumeTable
from samling.recipes.load import load
from samling.recipes.predict_volume import VolumeOptions, is_volume, predict_volume
from samling.recipes.progress import track
from samling.recipes.prompt_source import Asked, PromptSource, prompt_source
from samling.recipes.remarks import on_nothing, on_picture, on_sureness

FRAMES_AT_MOST = 1_000
_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
_LISTED = 20


@dataclass(frozen=True)
class PredictSummary:
    """What became of the inputs."""

    out: Path
    done: tuple[Path, ...]
    failed: tuple[tuple[Path, str], ...]
    objects: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        failed = f"{len(self.failed)} failed, " if self.failed else ""
        lines = [f"{len(self.done)} done, {failed}{self.objects} objects, in {self.out}"]
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"failed: {reason}" for _, reason in self.failed]
        return "\n".join(lines)


@dataclass(frozen=True)
class PredictOptions:
    """What may be asked for beside the prompts.

    Args:
        window: name of a preset, or "centre,width" in Hounsfield units; None: what the model's card
            says.
        volume: for volumes; its formats hold for images too.
        others: further models, by run, bundle or name, for an ensemble on volumes.
        runtime: of a bundle, see `load`.
    """

    window: str | None = None
    volume: VolumeOptions = field(default_factory=VolumeOptions)
    others: tuple[str, ...] = ()
    runtime: str | None = None

    def windowed(self, segmenter: Segmenter) -> Segmenter:
        """The segmenter, looking through the window that was asked for."""
        if self.window is None:
            return segmenter
        seen = {"window_hu": window_of(self.window), "calibration": None}  # made for other pictures
        card = segmenter.card.model_copy(update=seen)
        return Segmenter(segmenter.backend, card)

    def notes_on(self, card: Card) -> list[str]:
        """What is said where the window asked for is not the one that the model was trained with."""
        own = card.window_hu
        if self.window is None or own in (None, window_of(self.window)):
            return []
        return [
            f"--window {self.window} replaces the window that the model was trained with, {own}"
        ]


def predict(
    model: str,
    inputs: Sequence[Path],
    out: Path,
    boxes: Sequence[Sequence[float]] = (),
    points: Sequence[Sequence[float]] = (),
    prompts_file: Path | None = None,
    auto: bool = False,
    options: PredictOptions = PredictOptions(),
) -> PredictSummary:
    """Segment every input and write mask, overlay and one table for images, one for volumes.

    A folder means its images and DICOM files, not those of folders inside it; a folder with slices
    of a DICOM series is a volume. Every frame of a cine loop is an image of its own, with the same
    prompts.

    Args:
        model: run, bundle or name.
        boxes: x0, y0, x1, y1 each, an object each. points: x, y[, label] each, all one object.
        prompts_file: JSON, see `samling.recipes.prompt_source.read_prompts`.
        auto: no prompts: the model looks for objects itself.
        options: the window, the formats, and what concerns volumes.

    Raises:
        InputError: wrong use, the results cannot be written, or not one input could be used.
    """
    volumes = [path for path in dict.fromkeys(inputs) if is_volume(path)]
    files, failed, notes = collect([path for path in inputs if path not in volumes])
    within = [path / "slice" if path.is_dir() else path for path in volumes]
    refuse_own_folder(out, [*files, *within])
    loaded = load(model, options.runtime)
    notes += options.notes_on(loaded.card)
    notes += on_sureness(model, loaded.card, options.window) if files else []
    segmenter = options.windowed(loaded)
    others = tuple(options.windowed(load(name)) for name in options.others)
    options = replace(options, volume=replace(options.volume, others=others))
    source = prompt_source(segmenter.card, boxes, points, prompts_file, auto)
    for asked in source.common or ():
        segmenter.require(asked.prompt)
    notes += _unused(source, [*files, *volumes])
    if files and (options.others or options.volume.flips or options.volume.span):
        notes.append("--with, --flips and --slices are for volumes: images were seen without them")
    results = ResultFolder(out, segmenter.card.classes)
    run = Run(segmenter, source, options, results, failed, notes)
    run.files(files)
    run.volumes(volumes)
    if not run.done:
        raise _nothing_usable(failed)
    reasons = tuple((path, _named(path, error)) for path, error in failed)
    return PredictSummary(out, tuple(run.done), reasons, run.objects, tuple(notes))


def collect(
    inputs: Sequence[Path],
) -> tuple[list[Path], list[tuple[Path, InputError]], list[str]]:
    """Files to predict, each once, in order; what cannot be; what was left out of folders."""
    files: dict[Path, Path] = {}
    failed: list[tuple[Path, InputError]] = []
    notes: list[str] = []
    for given in inputs:
        try:
            found = _of_folder(given, notes) if given.is_dir() else [given]
        except InputError as error:
            failed.append((given, error))
            continue
        except OSError as error:
            reason = f"cannot be read ({error.strerror or error})"
            failed.append((given, InputError(given, reason, "check the path and its rights")))
            continue
        for path in found:
            files.setdefault(path.resolve(), path)
    return list(files.values()), failed, notes


def _of_folder(folder: Path, notes: list[str]) -> list[Path]:
    every = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    images = [path for path in every if is_image(path)]
    if not images:
        problem = "holds no PNG, JPEG, TIFF, BMP or DICOM file"
        raise InputError(folder, problem, "name a folder with images (folders inside are not read)")
    if len(images) < len(every):
        notes.append(f"{folder}: {len(every) - len(images)} files are no images and were left out")
    return images


def is_image(path: Path) -> bool:
    """By its name, so that damaged images are reported; else by content (DICOM without suffix)."""
    if path.suffix.lower() in (*SUFFIXES, *_DICOM_SUFFIXES):
        return True
    try:
        return kind_of(read_head(path)) is not None
    except InputError:
        return False


@dataclass
class Run:
    """One call of `predict`: what every input needs, and what became of the inputs so far."""

    segmenter: Segmenter
    source: PromptSource
    options: PredictOptions
    results: ResultFolder
    failed: list[tuple[Path, InputError]]
    notes: list[str]
    done: list[Path] = field(default_factory=list)
    objects: int = 0

    def files(self, files: Sequence[Path]) -> None:
        """Images; the table is written also when something stops the run."""
        before = len(self.done)
        try:
            for path in track(files, "predicting", "images"):
                self._one(path, self.predict_file)
        finally:
            if len(self.done) > before:
                self.results.write_table()
        rows = self.results.rows
        nothing = sum(row["object"] == 0 for row in rows)
        empty = sum(row["object"] != 0 and row["area_px"] == 0 for row in rows)
        self.notes += on_nothing(nothing, empty)

    def volumes(self, volumes: Sequence[Path]) -> None:
        """Volumes, with a table of their own."""
        table = VolumeTable(self.results.folder)

        def predict_one(path: Path) -> int:
            asked, options = self.source.of(path), self.options.volume
            found, remarks = predict_volume(
                self.segmenter, path, asked, options, self.results, table
            )
            self.notes += [f"{path}: {remark}" for remark in remarks]
            return found

        before = len(self.done)
        try:
            for path in volumes:
                self._one(path, predict_one)
        finally:
            if len(self.done) > before:
                table.write()

    def _one(self, path: Path, predict_one: Callable[[Path], int]) -> None:
        """One input, whole or not at all."""
        try:
            with self.results.all_or_nothing():
                self.objects += predict_one(path)
            self.done.append(path)
        except InputError as error:
            if _is_about(error, self.results.folder):
                raise
            self.failed.append((path, error))
        except MemoryError:
            problem = "needs more memory than there is"
            self.failed.append((path, InputError(path, problem, "scale it down or cut it")))

    def predict_file(self, path: Path, stem: str | None = None) -> int:
        """Every frame of one file; returns the number of objects. `stem`: name of the results."""
        asked = self.source.of(path)
        first = read_any(path)
        if first.frames > FRAMES_AT_MOST:
            problem = f"has {first.frames} frames"
            raise InputError(path, problem, f"cut it into loops of at most {FRAMES_AT_MOST} frames")
        if first.frames == 1:
            planes: Iterable[ImagePlane] = [first]
        else:
            from samling.data.readers.dicom import read_frames

            planes = read_frames(path)
        found, calibration = 0, self.segmenter.card.calibration
        drawn: list[NDArray[np.uint8]] = []
        for frame, plane in enumerate(planes):
            objects = _predict_plane(self.segmenter, path, plane, asked)
            number = None if first.frames == 1 else frame
            self.results.add(
                path,
                plane.pixels,
                objects,
                spacing_mm=plane.spacing_mm,
                frame=number,
                stem=stem,
                asked=bool(asked),
                nothing=None if calibration is None else calibration.nothing,
            )
            found += len(objects)
            name = str(path) if number is None else f"{path} frame {number}"
            self.notes += on_picture(name, plane.pixels, [one.prompt for one in asked])
            self.notes += _expectations(name, objects)
            if "dicom-seg" in self.options.volume.formats:
                drawn.append(self.results.class_numbers(path, plane.pixels.shape, objects))
        if drawn:
            self._write_seg(path, np.stack(drawn), first, asked)
        return found

    def _write_seg(
        self, path: Path, labels: NDArray[np.uint8], plane: ImagePlane, asked: Sequence[Asked]
    ) -> None:
        if kind_of(read_head(path)) != "DICOM":
            problem = "is no DICOM file, which a DICOM segmentation refers to"
            raise InputError(path, problem, "leave --format dicom-seg out")
        from samling.data.readers.dicom import read_header

        prompted = any(not one.prompt.automatic for one in asked)
        card = self.segmenter.card
        target = self.results.folder / f"{self.results.reserve(path.stem, ('_seg.dcm',))}_seg.dcm"
        author = Author(card.name, samling.__version__, prompted)
        write_seg(target, labels, [read_header(path)], card.classes, author, plane.spacing_mm)
        self.results.wrote(target)


def _expectations(name: str, objects: Sequence[Object]) -> list[str]:
    """What to expect of each object of a calibrated model, and whether to look at it."""
    return [
        f"{name}, object {number}: expected Dice {item.expected.dice:.2f} "
        f"({item.expected.low:.2f} to {item.expected.high:.2f})"
        + (f": look at it, {item.expected.reason}" if item.expected.look else "")
        for number, item in enumerate(objects, start=1)
        if item.expected is not None
    ]


def _predict_plane(
    segmenter: Segmenter, path: Path, plane: ImagePlane, asked: Sequence[Asked]
) -> list[Object]:
    height, width = plane.pixels.shape
    if segmenter.card.window_hu is not None and not plane.hounsfield:
        problem = "has no Hounsfield units, which the window of this model needs"
        raise InputError(path, problem, "give the DICOM file, or a model without a window")
    segmenter.check([one.prompt for one in asked], (height, width))
    return _objects(segmenter, segmenter.encode(plane.values), asked) if asked else []


def _objects(segmenter: Segmenter, encoded: EncodedImage, asked: Sequence[Asked]) -> list[Object]:
    """What was asked for, with the class that was asked for."""
    prompts = [one.prompt for one in asked]
    if not any(prompt.automatic for prompt in prompts):
        found = segmenter.segment_encoded(encoded, prompts)
        return [_classed(thing, one) for thing, one in zip(found, asked, strict=True)]
    # an automatic prompt may give any number of objects: ask one by one, so that classes stay right
    return [
        _classed(thing, one)
        for one in asked
        for thing in segmenter.segment_encoded(encoded, [one.prompt])
    ]


def _classed(found: Object, asked: Asked) -> Object:
    return found if asked.class_name is None else replace(found, class_name=asked.class_name)


def refuse_own_folder(out: Path, files: Sequence[Path]) -> None:
    """Refuse a folder of results that holds the inputs.

    Raises:
        InputError: naming it.
    """
    if out.exists() and not out.is_dir():
        raise InputError(out, "is a file", "name a folder for the results")
    if any(path.resolve().parent == out.resolve() for path in files):
        remedy = "name another folder: masks would overwrite images"
        raise InputError(out, "is the folder of an input", remedy)


def _unused(source: PromptSource, files: Sequence[Path]) -> list[str]:
    names = source.unused(files)
    listed = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
    return [f"{source.where}: no input is named {listed}"] if names else []


def _is_about(error: InputError, out: Path) -> bool:
    """True if the results cannot be written: going on would fail for every input."""
    return Path(error.where).is_relative_to(out)


def _named(path: Path, error: InputError) -> str:
    return str(error) if str(path) in error.where else f"{path}: {error}"


def _nothing_usable(failed: Sequence[tuple[Path, InputError]]) -> InputError:
    if len(failed) == 1:
        path, error = failed[0]
        same = str(path) in error.where
        return error if same else InputError(f"{path}: {error.where}", error.problem, error.remedy)
    listed = [_named(path, error).rstrip(".") for path, error in failed[:_LISTED]]
    more = [f"and {len(failed) - _LISTED} more"] if len(failed) > _LISTED else []
    where = f"none of {len(failed)} inputs could be used"
    return InputError(where, "; ".join(listed + more), "mend them and run it again")
