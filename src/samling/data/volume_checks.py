"""Volumes of a data set become cases: slices that show a class, and some that do not if asked for."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samling.data.case import Case
from samling.data.checks import Checked, relative
from samling.data.rasterise import MAX_CLASS
from samling.data.readers.plane import CT_OFFSET
from samling.data.sources.entry import Entry, Problem, VolumeEntry
from samling.data.volume import Volume
from samling.errors import InputError


def check_volumes(
    entries: Iterable[VolumeEntry], classes: int, root: Path, empty: int = 0
) -> Iterator[Checked]:
    """Read volume after volume; yield its slices that show a class, or the reason why there are none.

    Args:
        classes: how many the data set knows; a higher number in the labels is an error.
        root: files in the problems are relative to it.
        empty: every so many slices without a class one is kept, the middle one of them; 0: none.
    """
    for entry in entries:
        blank = Entry(entry.id, entry.path)
        try:
            volume, labels = entry.load()
            _check_labels(entry, labels, classes)
        except InputError as error:
            problem = Problem(error.where, error.problem, error.remedy)
            yield Checked(blank, None, (relative(problem, root),))
            continue
        problems = [Problem(str(entry.path), note, "nothing", "info") for note in volume.notes]
        shown: NDArray[np.bool_] = np.asarray(labels.any(axis=(1, 2)))
        if empty:
            shown[np.flatnonzero(~shown)[empty // 2 :: empty]] = True
        for index in np.flatnonzero(shown):
            found = tuple(relative(problem, root) for problem in problems)
            yield replace(_slice(entry, volume, labels, int(index)), problems=found)
            problems = []


def _check_labels(entry: VolumeEntry, labels: NDArray[np.uint8], classes: int) -> None:
    highest = int(labels.max())
    if not highest:
        raise InputError(entry.path, "has empty labels", "check that they belong to this scan")
    if highest > min(classes, MAX_CLASS):
        problem = f"has the class {highest} in its labels, the data set names {classes}"
        raise InputError(entry.path, problem, "name all classes, or mend the labels")


def _slice(entry: VolumeEntry, volume: Volume, labels: NDArray[np.uint8], index: int) -> Checked:
    hounsfield = volume.modality == "ct" or entry.modality == "ct"
    plane = np.rint(volume.voxels[index].astype(np.float32))
    # Other values are kept from being negative; Hounsfield units below air are padding
    plane = (
        np.clip(plane, -CT_OFFSET, 65535 - CT_OFFSET) if hounsfield else _positive(volume, plane)
    )
    patient = entry.patient or volume.patient
    case = Case(
        id=f"{entry.id}_s{index:04d}",
        image=plane,
        labels=labels[index],
        spacing_mm=volume.spacing_mm[1:],
        patient=patient,
        group=entry.group or patient or entry.id,
        category=entry.category,
        modality="ct" if hounsfield else volume.modality,
        source=entry.path,
        hounsfield=hounsfield,
    )
    return Checked(Entry(case.id, entry.path, part=entry.part), case, ())


def _positive(volume: Volume, plane: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip(plane - min(0.0, float(volume.voxels.min())), 0, 65535)
