"""predict for volumes: DICOM series and volume files, slice by slice, to masks a hospital can read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import samling
from samling.data.intensity import WINDOWS, Intensity
from samling.data.readers.bounds import kind_of, read_head
from samling.data.readers.members import is_zip
from samling.data.readers.volume_file import is_volume_file, read_volume_file
from samling.data.volume import Volume
from samling.errors import InputError
from samling.inference.clean_volume import CleanUp, clean_labels
from samling.inference.dicom_seg import Author
from samling.inference.ensemble import Ensemble, segment_slices
from samling.inference.measure_volume import measure_volume
from samling.inference.propagate import propagate
from samling.inference.results import ResultFolder
from samling.inference.segmenter import Segmenter
from samling.inference.volume_results import FORMATS, VolumeTable, write_volume
from samling.recipes.progress import track
from samling.recipes.prompt_source import Asked

_LOOKED_AT = 16


@dataclass(frozen=True)
class VolumeOptions:
    """What `predict` takes for volumes beside prompts.

    Args:
        formats: of `FORMATS`; empty: png and nifti, and dicom-seg where the source is DICOM.
        series: number or UID of the series, where a folder holds several.
        start: slice that the prompts are on, from 0; None: the middle one of those looked at.
        span: first and last slice that are looked at, from 0; None: all.
        clean: what is done to the whole volume afterwards.
        others: further models whose automatic answers are averaged with the first one's.
        flips: average with the answers for mirrored slices.
    """

    formats: tuple[str, ...] = ()
    series: str | None = None
    start: int | None = None
    span: tuple[int, int] | None = None
    clean: CleanUp = field(default_factory=CleanUp)
    others: tuple[Segmenter, ...] = ()
    flips: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown:
            problem = f"'{unknown[0]}' is no format"
            raise InputError("--format", problem, f"use {', '.join(FORMATS)}")


def is_volume(path: Path) -> bool:
    """True for a volume file, a zip, and a folder with two or more slices of one DICOM series."""
    if not path.is_dir():
        return is_volume_file(path) or is_zip(path)
    seen: set[str] = set()
    looked_at = 0
    for file in sorted(path.iterdir()):
        if file.name.startswith(".") or not file.is_file() or looked_at == _LOOKED_AT:
            continue
        series = _series_of(file)
        if series is not None:
            looked_at += 1
            if series in seen:
                return True
            seen.add(series)
    return False


def predict_volume(
    segmenter: Segmenter,
    path: Path,
    asked: Sequence[Asked],
    options: VolumeOptions,
    results: ResultFolder,
    table: VolumeTable,
) -> tuple[int, tuple[str, ...]]:
    """Segment one volume, write it and remember its measurements.

    Returns:
        How many separate objects there are, and what is odd about the volume.

    Raises:
        InputError: the volume, a prompt or an option is unusable.
    """
    volume = _read(path, options)
    intensity = segmenter.card.intensity_steps
    if intensity.window is not None and volume.modality not in ("ct", "unknown"):
        problem = f"is {volume.modality}, and a window needs Hounsfield units"
        raise InputError(path, problem, "use a model without a window")
    labels, doubt = segment_volume(segmenter, volume.voxels, asked, options)
    nested = segmenter.card.automatic == "nested"
    labels = clean_labels(labels, options.clean, volume.spacing_mm, volume.voxel_ml, nested=nested)
    classes = segmenter.card.classes
    rows = measure_volume(labels, classes, volume.spacing_mm, volume.voxel_ml)
    default = ("png", "nifti", "dicom-seg") if volume.headers else ("png", "nifti")
    prompted = any(not one.prompt.automatic for one in asked)
    author = Author(segmenter.card.name, samling.__version__, prompted)
    shown = _shown(volume, intensity)
    formats = options.formats or default
    files = write_volume(results, volume, labels, author, formats, shown, uncertainty=doubt)
    table.add(volume, rows, files)
    notes = [*volume.notes, *_doubts(labels, volume, intensity)]
    notes += _doubts_of_classes(labels, classes) if nested else []
    if prompted and options.start is None and any(one.slice is None for one in asked):
        first, last = _span(options.span, len(labels))
        middle = first + (last + 1 - first) // 2
        notes.append(f"prompts are on slice {middle}, the middle one: --slice names another")
    return sum(row.parts for row in rows if row.part is None), tuple(notes)


def _doubts(labels: NDArray[np.uint8], volume: Volume, intensity: Intensity) -> list[str]:
    """What a reader of the result should know before trusting it."""
    doubts = []
    if volume.modality == "ct" and intensity.window is None:
        doubts.append(
            "seen from its lowest to its highest value, where organs hardly differ: give "
            f"--window {', '.join(WINDOWS)} or CENTRE,WIDTH"
        )
    if len(labels) > 1 and (labels[0].any() or labels[-1].any()):
        doubts.append("an object reaches the end of the scan: look whether it leaked")
    return doubts


def _doubts_of_classes(labels: NDArray[np.uint8], classes: Sequence[str]) -> list[str]:
    """Classes that lie inside each other: an inner one that is more than half of the one around."""
    sizes = [np.count_nonzero(labels >= number) for number in range(1, len(classes) + 1)]
    return [
        f"{inner} fills {100 * small / large:.0f} % of {outer}: has the model learned to tell them apart?"
        for (outer, large), (inner, small) in pairwise(zip(classes, sizes, strict=True))
        if small > large / 2
    ]


def segment_volume(
    segmenter: Segmenter,
    voxels: NDArray[np.generic],
    asked: Sequence[Asked],
    options: VolumeOptions = VolumeOptions(),
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """(D, H, W) values -> class numbers; where objects overlap the higher class counts.

    So a tumour is seen inside its organ.

    Automatic on every slice, or every prompt carried up and down from its own slice, else
    `options.start`, else the middle one.

    Returns:
        The labels, and for an ensemble its uncertainty in percent.

    Raises:
        InputError: automatic beside prompts, a slice that is not there, an unusable prompt, an
            ensemble that is given prompts.
    """
    labels = np.zeros(voxels.shape, np.uint8)
    first, last = _span(options.span, len(voxels))
    inside = slice(first, last + 1)
    automatic = [one for one in asked if one.prompt.automatic]
    if automatic and len(automatic) < len(asked):
        raise InputError("--prompts", "mixes automatic and prompted objects", "ask for one kind")
    ensemble = Ensemble((segmenter, *options.others), options.flips)
    if automatic:
        doubt = np.zeros(voxels.shape, np.uint8) if ensemble.votes > 1 else None
        slices = track(range(last + 1 - first), "predicting", "slices")
        for index, plane, unsure in segment_slices(ensemble, voxels[inside], slices):
            labels[first + index] = plane
            if doubt is not None:
                doubt[first + index] = unsure
        return labels, doubt
    if ensemble.votes > 1:
        remedy = "leave --with and --flips out, or the prompts"
        raise InputError("--with", "joins models in automatic mode only", remedy)
    _carry_prompts(segmenter, voxels[inside], asked, options.start, first, labels[inside])
    return labels, None


def _carry_prompts(
    segmenter: Segmenter,
    voxels: NDArray[np.generic],
    asked: Sequence[Asked],
    start: int | None,
    first: int,
    labels: NDArray[np.uint8],
) -> None:
    """Draw prompted objects into `labels`; both are part of a scan and begin at slice `first`."""
    places = [_place(one, start, first, len(voxels)) for one in asked]
    for place in sorted(set(places)):
        here = [one for one, other in zip(asked, places, strict=True) if other == place]
        numbers = [_number(one, segmenter.card.classes) for one in here]
        steps = propagate(segmenter, voxels, place, [one.prompt for one in here])
        for index, masks in track(steps, "predicting", "slices", total=len(voxels)):
            for number, mask in zip(numbers, masks, strict=True):
                if mask is not None:
                    labels[index] = np.maximum(labels[index], mask * np.uint8(number))


def _span(span: tuple[int, int] | None, depth: int) -> tuple[int, int]:
    first, last = span or (0, depth - 1)
    if not 0 <= first <= last < depth:
        raise InputError("--slices", f"{first}-{last} are not there", f"use 0-{depth - 1}")
    return first, last


def _read(path: Path, options: VolumeOptions) -> Volume:
    if is_volume_file(path):
        return read_volume_file(path)
    from samling.data.readers.volumes import read_series  # pydicom takes 0.2 s to import

    return read_series(path, options.series)


def _series_of(path: Path) -> str | None:
    """SeriesInstanceUID of a DICOM slice that says where in the patient it lies."""
    try:
        if kind_of(read_head(path)) != "DICOM":
            return None
        from pydicom import dcmread

        wanted = ["SeriesInstanceUID", "ImagePositionPatient", "NumberOfFrames"]
        header = dcmread(path, force=True, stop_before_pixels=True, specific_tags=wanted)
        placed = header.get("ImagePositionPatient") and not header.get("NumberOfFrames")
        return str(header.get("SeriesInstanceUID", "")) if placed else None
    except Exception:  # damaged: the reader that is chosen will say so
        return None


def _place(one: Asked, start: int | None, first: int, depth: int) -> int:
    """Slice of a prompt, counted from `first`."""
    place = one.slice if one.slice is not None else start
    if place is None:
        return depth // 2
    if not first <= place < first + depth:
        raise InputError("--slice", f"{place} is not there", f"use {first} to {first + depth - 1}")
    return place - first


def _number(one: Asked, classes: Sequence[str]) -> int:
    return 1 if one.class_name is None else classes.index(one.class_name) + 1


def _shown(volume: Volume, intensity: Intensity) -> Intensity:
    """How slices are shown: as the model sees them, or a CT in a window for the whole abdomen."""
    if not intensity.plain:
        return intensity
    return Intensity(WINDOWS["abdomen"]) if volume.modality == "ct" else intensity
