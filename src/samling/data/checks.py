"""Every image and mask is read and judged; what is wrong comes as a list, not as a crash."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from samling.data.case import Case
from samling.data.rasterise import draw
from samling.data.readers.plane import ImagePlane, read_any
from samling.data.sources.entry import Entry, Problem
from samling.errors import InputError

UNLABELLED = "nothing, if you want it for the first stage of distill alone"


@dataclass(frozen=True)
class Checked:
    """One entry after reading: the case, or None if an error keeps it out, and the remarks."""

    entry: Entry
    case: Case | None
    problems: tuple[Problem, ...]


def check_entries(entries: Iterable[Entry], root: Path) -> Iterator[Checked]:
    """Read and judge entry by entry; files in the problems are relative to `root`."""
    seen: set[str] = set()
    for entry in entries:
        checked = check_entry(entry)
        if entry.id in seen:
            remedy = "rename it: ids are file names without suffix"
            twice = Problem(str(entry.image), f"has the id '{entry.id}' of another image", remedy)
            checked = Checked(entry, None, (twice,))
        seen.add(entry.id)
        yield replace(checked, problems=tuple(relative(p, root) for p in checked.problems))


def check_entry(entry: Entry) -> Checked:
    """Read one image and its labels.

    Errors: unreadable, sizes differ, mask not binary and no class numbers.
    Warnings: JPEG masks, greys in masks, cine loops. Infos: colour, 16-bit, 255-labels, empty mask.
    """
    try:
        plane = read_any(entry.image)
        labels, problems = draw(entry.shapes, *plane.pixels.shape)
    except InputError as error:
        return Checked(entry, None, (Problem(error.where, error.problem, error.remedy),))
    problems = [*_image_remarks(entry, plane), *problems]
    if not entry.labelled:
        problems.append(Problem(str(entry.image), "has no label", UNLABELLED, "info"))
    elif not labels.any():
        empty = "has an empty mask: nothing here"
        problems.append(Problem(str(entry.image), empty, "nothing, if that is so", "info"))
    patient = entry.patient or plane.patient
    case = Case(
        id=entry.id,
        image=plane.values.astype(np.float32),
        labels=labels if entry.labelled else None,
        spacing_mm=entry.spacing_mm or plane.spacing_mm,
        patient=patient,
        group=entry.group or patient,
        category=entry.category,
        modality=entry.modality if plane.modality == "unknown" else plane.modality,
        source=entry.image,
        hounsfield=plane.hounsfield,
    )
    return Checked(entry, case, tuple(problems))


def relative(problem: Problem, root: Path) -> Problem:
    """The same problem with its file relative to the data folder."""
    path = Path(problem.file)
    return (
        replace(problem, file=str(path.relative_to(root))) if path.is_relative_to(root) else problem
    )


def _image_remarks(entry: Entry, plane: ImagePlane) -> list[Problem]:
    file = str(entry.image)
    remarks = [Problem(file, note, "nothing", "info") for note in plane.notes]
    if plane.frames > 1:
        reason = f"is a cine loop of {plane.frames} frames: the first is taken"
        remarks.append(Problem(file, reason, "export the annotated frame", "warning"))
    if plane.pixels.min() == plane.pixels.max():
        remarks.append(Problem(file, "has one grey level only", "check the export", "warning"))
    return remarks
