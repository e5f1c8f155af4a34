"""predict: masks, overlays and measurements for files, folders and DICOM, by any model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from samling.data.readers.bounds import kind_of, read_head
from samling.data.readers.image import SUFFIXES
from samling.data.readers.plane import ImagePlane, read_any
from samling.errors import InputError
from samling.inference.results import ResultFolder
from samling.inference.segmenter import EncodedImage, Object, Segmenter
from samling.recipes.load import load
from samling.recipes.progress import track
from samling.recipes.prompt_source import Asked, PromptSource, prompt_source

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
        lines = [f"{len(self.done)} done, {self.objects} objects, in {self.out}"]
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"failed: {reason}" for _, reason in self.failed]
        return "\n".join(lines)


def predict(
    model: str,
    inputs: Sequence[Path],
    out: Path,
    boxes: Sequence[Sequence[float]] = (),
    points: Sequence[Sequence[float]] = (),
    prompts_file: Path | None = None,
    auto: bool = False,
) -> PredictSummary:
    """Segment every input and write mask, overlay and one table.

    A folder means its images and DICOM files, not those of folders inside it. Every frame of a cine
    loop is an image of its own, with the same prompts.

    Args:
        model: run, bundle or name.
        boxes: x0, y0, x1, y1 each, an object each. points: x, y[, label] each, all one object.
        prompts_file: JSON, see `samling.recipes.prompt_source.read_prompts`.
        auto: no prompts: the model looks for objects itself.

    Raises:
        InputError: wrong use, the results cannot be written, or not one input could be used.
    """
    files, failed, notes = collect(inputs)
    _refuse_own_folder(out, files)
    segmenter = load(model)
    source = prompt_source(segmenter.card, boxes, points, prompts_file, auto)
    for asked in source.common or ():
        segmenter.require(asked.prompt)
    notes += _unused(source, files)
    results = ResultFolder(out, segmenter.card.classes)
    done, objects = _predict_files(segmenter, files, source, results, failed)
    if not done:
        raise _nothing_usable(failed)
    reasons = tuple((path, _named(path, error)) for path, error in failed)
    return PredictSummary(out, tuple(done), reasons, objects, tuple(notes))


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
    images = [path for path in every if _is_image(path)]
    if not images:
        problem = "holds no PNG, JPEG, TIFF, BMP or DICOM file"
        raise InputError(folder, problem, "name a folder with images (folders inside are not read)")
    if len(images) < len(every):
        notes.append(f"{folder}: {len(every) - len(images)} files are no images and were left out")
    return images


def _is_image(path: Path) -> bool:
    """By its name, so that damaged images are reported; else by content (DICOM without suffix)."""
    if path.suffix.lower() in (*SUFFIXES, *_DICOM_SUFFIXES):
        return True
    try:
        return kind_of(read_head(path)) is not None
    except InputError:
        return False


def _predict_files(
    segmenter: Segmenter,
    files: Sequence[Path],
    source: PromptSource,
    results: ResultFolder,
    failed: list[tuple[Path, InputError]],
) -> tuple[list[Path], int]:
    """Every file, whole or not at all; the table is written also when something stops the run."""
    done, objects = list[Path](), 0
    try:
        for path in track(files, "predicting", "images"):
            try:
                with results.all_or_nothing():
                    objects += _predict_file(segmenter, path, source.of(path), results)
                done.append(path)
            except InputError as error:
                if _is_about(error, results.folder):
                    raise
                failed.append((path, error))
            except MemoryError:
                problem = "needs more memory than there is"
                failed.append((path, InputError(path, problem, "scale the image down or cut it")))
    finally:
        if done:
            results.write_table()
    return done, objects


def _predict_file(
    segmenter: Segmenter, path: Path, asked: Sequence[Asked], results: ResultFolder
) -> int:
    """Every frame of one file; returns the number of objects."""
    first = read_any(path)
    if first.frames > FRAMES_AT_MOST:
        problem = f"has {first.frames} frames"
        raise InputError(path, problem, f"cut it into loops of at most {FRAMES_AT_MOST} frames")
    if first.frames == 1:
        return _predict_plane(segmenter, path, first, asked, results, None)
    from samling.data.readers.dicom import read_frames

    return sum(
        _predict_plane(segmenter, path, plane, asked, results, frame)
        for frame, plane in enumerate(read_frames(path))
    )


def _predict_plane(
    segmenter: Segmenter,
    path: Path,
    plane: ImagePlane,
    asked: Sequence[Asked],
    results: ResultFolder,
    frame: int | None,
) -> int:
    height, width = plane.pixels.shape
    if segmenter.card.window_hu is not None and not plane.hounsfield:
        problem = "has no Hounsfield units, which the window of this model needs"
        raise InputError(path, problem, "give the DICOM file, or a model without a window")
    segmenter.check([one.prompt for one in asked], (height, width))
    objects = _objects(segmenter, segmenter.encode(plane.values), asked) if asked else []
    results.add(path, plane.pixels, objects, spacing_mm=plane.spacing_mm, frame=frame)
    return len(objects)


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


def _refuse_own_folder(out: Path, files: Sequence[Path]) -> None:
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
