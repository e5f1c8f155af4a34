"""USEFD and its like: a folder per subject, each with image/ and mask/ inside, or with pairs."""

from dataclasses import replace
from pathlib import Path

from samling.data.sources import folder
from samling.data.sources.entry import Entry, Listing, Problem
from samling.data.sources.files import natural, safe_id
from samling.errors import InputError


def matches(root: Path) -> bool:
    """True if every visible subfolder holds pairs, and there is at least one."""
    subjects = _subjects(root)
    return bool(subjects) and all(folder.matches(subject) for subject in subjects)


def read(root: Path) -> Listing:
    """List all subjects; the subject is patient and group. A subject that fails is a problem."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    classes: tuple[str, ...] = ("foreground",)
    for subject in _subjects(root):
        try:
            listing = folder.read(subject)
        except InputError as error:
            problems.append(Problem(error.where, error.problem, error.remedy))
            continue
        problems += listing.problems
        classes = max(classes, listing.classes, key=len)
        entries += [_of_subject(entry, subject.name) for entry in listing.entries]
    return Listing(entries, classes, problems)


def _subjects(root: Path) -> list[Path]:
    folders = (path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return sorted(folders, key=lambda path: natural(path.name))


def _of_subject(entry: Entry, subject: str) -> Entry:
    name = safe_id(f"{subject}_{entry.id}")
    return replace(entry, id=name, patient=subject, group=subject, modality="ultrasound")
