"""DICOM series: the slices of a folder or zip told apart, put in order by position, and judged."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from samling.data.readers.bounds import check_pixels, kind_of
from samling.data.readers.deflated import check_deflated
from samling.data.readers.dicom import decoding
from samling.data.readers.members import Member, members_of
from samling.errors import InputError

UNEVEN = 0.1
"""A slice may lie this share of a step away from where an even series would have it."""
TILT_DEGREES = 0.1
_HEADER_ONLY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")


@dataclass(frozen=True)
class Slice:
    """One file of a series: its header without pixels, and where it lies."""

    member: Member
    header: Dataset

    @property
    def position(self) -> NDArray[np.float64]:
        """(3,) mm, LPS: centre of the first pixel."""
        return np.array(self.header.ImagePositionPatient, dtype=np.float64)


@dataclass(frozen=True)
class Series:
    """Slices of one SeriesInstanceUID, one orientation and one size, sorted by position.

    Args:
        slices: in the order of their positions along the normal.
        notes: what was left out or is odd, in words.
    """

    slices: tuple[Slice, ...]
    notes: tuple[str, ...] = ()

    @property
    def uid(self) -> str:
        """SeriesInstanceUID."""
        return str(self.slices[0].header.get("SeriesInstanceUID", ""))

    @property
    def affine(self) -> NDArray[np.float64]:
        """(4, 4) index (column, row, slice) -> mm, LPS. Its third column is the mean step."""
        first = self.slices[0].header
        row_step, column_step = (float(value) for value in first.PixelSpacing)
        along_row, along_column = _directions(first)
        affine = np.eye(4)
        affine[:3, 0] = along_row * column_step
        affine[:3, 1] = along_column * row_step
        positions = [self.slices[0].position, self.slices[-1].position]
        affine[:3, 2] = (positions[1] - positions[0]) / max(len(self.slices) - 1, 1)
        affine[:3, 3] = positions[0]
        return affine

    def __str__(self) -> str:
        header = self.slices[0].header
        number = header.get("SeriesNumber")
        return f"{len(self.slices)} slices, series {number if number is not None else self.uid}"


def find_series(root: Path, members: Sequence[Member] | None = None) -> list[Series]:
    """The series of a folder or zip, largest first; each is sorted and its geometry checked later.

    Files that are no DICOM images with a position (reports, colour captures) are left out with a note.

    Raises:
        InputError: nothing is left, or a file is damaged.
    """
    found: dict[tuple[object, ...], list[Slice]] = {}
    left_out: dict[str, list[str]] = {}
    for member in members_of(root) if members is None else members:
        header, reason = _header(member)
        if header is None:
            left_out.setdefault(reason, []).append(member.name)
        else:
            found.setdefault(_key(header), []).append(Slice(member, header))
    notes = tuple(
        f"{len(names)} files left out, they {reason}: {', '.join(names[:3])}"
        for reason, names in left_out.items()
    )
    if not found:
        problem = f"holds no DICOM slices ({notes[0]})" if notes else "holds no files"
        raise InputError(root, problem, "name the folder or zip of a CT or MR series")
    return sorted(
        (Series(_sorted(slices), notes) for slices in found.values()),
        key=lambda series: (-len(series.slices), series.uid),
    )


def choose_series(root: Path, series: Sequence[Series], wanted: str | None = None) -> Series:
    """The only series, or the one whose number or UID was asked for.

    Raises:
        InputError: there are several, or none of that name.
    """
    if wanted is not None:
        named = [
            s for s in series if wanted in (s.uid, str(s.slices[0].header.get("SeriesNumber")))
        ]
        if len(named) != 1:
            known = "; ".join(str(s) for s in series[:5])
            problem = f"has {'no' if not named else 'more than one'} series {wanted} ({known})"
            raise InputError(
                root, problem, "give the number or the SeriesInstanceUID of one of them"
            )
        return named[0]
    if len(series) > 1:
        known = "; ".join(str(s) for s in series[:5])
        problem = f"holds {len(series)} series ({known})"
        raise InputError(
            root, problem, "choose one by --series and its number or SeriesInstanceUID"
        )
    return series[0]


def check_geometry(root: Path, series: Series) -> Series:
    """The series without exact duplicates; its notes name a gantry tilt.

    Raises:
        InputError: one slice only, missing slices, two images in one place, uneven steps or pixels
            of different sizes; the files are named.
    """
    series = _without_duplicates(root, series)
    slices = series.slices
    if len(slices) < 2:
        raise InputError(root, "is a single slice", "give the file itself: it is read as an image")
    spacings = np.array([s.header.PixelSpacing for s in slices], dtype=np.float64)
    if not (spacings > 0).all() or not np.isfinite(spacings).all():
        raise InputError(root, "has pixels of no size (PixelSpacing)", "export it again")
    odd = np.flatnonzero(np.abs(spacings - spacings[0]).max(axis=1) > 1e-3 * spacings[0].max())
    if len(odd):
        problem = f"changes its pixel size at {slices[odd[0]].member.name}"
        raise InputError(root, problem, "separate the parts")
    _check_steps(root, slices)
    tilt = _tilt_degrees(series)
    if tilt <= TILT_DEGREES:
        return series
    note = f"gantry tilt of {tilt:.1f} degrees: slices are kept as scanned, the grid is sheared"
    return Series(slices, (*series.notes, note))


def _header(member: Member) -> tuple[Dataset | None, str]:
    """Header of a slice, or the reason why the file is none."""
    content = member.read()
    if kind_of(content[:140]) != "DICOM":
        return None, "are no DICOM"
    file = io.BytesIO(content)
    check_deflated(member.where, file)
    with decoding(member.where):
        header = dcmread(file, force=content[128:132] != b"DICM", stop_before_pixels=True)
        if "Rows" not in header or "Columns" not in header:
            return None, "have no pixels"
        if int(header.get("SamplesPerPixel", 1)) != 1:
            return None, "are in colour (secondary captures)"
        if int(header.get("NumberOfFrames") or 1) != 1:
            return None, "have several frames (enhanced or cine)"
        if any(header.get(name) is None for name in _HEADER_ONLY):
            return None, "have no position in the patient"
        header.buffer = None  # else the pixels stay in memory
        check_pixels(Path(member.where), int(header.Rows), int(header.Columns))
        _finite(header)
    return header, ""


def _finite(header: Dataset) -> None:
    """Position, orientation and pixel size are as many finite numbers as they should be."""
    for name, count in zip(_HEADER_ONLY, (3, 6, 2), strict=True):
        values = np.array(header.get(name), dtype=np.float64)
        if values.shape != (count,) or not np.isfinite(values).all():
            raise ValueError(f"{name} is {header.get(name)}")
    along_row, along_column = _directions(header)
    lengths = np.linalg.norm([along_row, along_column], axis=1)
    if np.abs(lengths - 1).max() > 1e-2 or abs(along_row @ along_column) > 1e-2:
        raise ValueError("ImageOrientationPatient is no pair of directions at right angles")


def _key(header: Dataset) -> tuple[object, ...]:
    orientation = tuple(round(float(v), 2) + 0.0 for v in header.ImageOrientationPatient)
    return header.get("SeriesInstanceUID"), orientation, int(header.Rows), int(header.Columns)


def _directions(header: Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors along a row and down a column."""
    cosines = np.array(header.ImageOrientationPatient, dtype=np.float64)
    return cosines[:3], cosines[3:]


def _normal(header: Dataset) -> NDArray[np.float64]:
    return np.cross(*_directions(header))


def _sorted(slices: list[Slice]) -> tuple[Slice, ...]:
    normal = _normal(slices[0].header)
    return tuple(sorted(slices, key=lambda s: (float(s.position @ normal), s.member.name)))


def _without_duplicates(root: Path, series: Series) -> Series:
    """Copies of a slice leave; two different images in one place are an error."""
    kept: list[Slice] = []
    copies: list[str] = []
    normal = _normal(series.slices[0].header)
    for one in series.slices:
        if kept and abs((one.position - kept[-1].position) @ normal) < 1e-3:
            before = kept[-1]
            if not _same_image(before, one):
                names = f"{before.member.name} and {one.member.name}"
                problem = f"has two different images in one place: {names}"
                raise InputError(root, problem, "keep one phase of the scan in the folder")
            copies.append(one.member.name)
        else:
            kept.append(one)
    notes = (f"{len(copies)} copies of slices left out: {', '.join(copies[:3])}",) * bool(copies)
    return Series(tuple(kept), series.notes + notes)


def _same_image(first: Slice, second: Slice) -> bool:
    pixels = []
    for one in (first, second):
        with decoding(one.member.where):
            dataset = dcmread(io.BytesIO(one.member.read()), force=True)
            pixels.append((dataset.get("PixelData"), dataset.get("RescaleIntercept")))
    return pixels[0] == pixels[1]


def _check_steps(root: Path, slices: Sequence[Slice]) -> None:
    positions = np.array([s.position for s in slices])
    along = positions @ _normal(slices[0].header)
    steps = np.diff(along)
    step = float(np.median(steps))
    worst = int(np.argmax(np.abs(steps - step)))
    before, after = slices[worst].member.name, slices[worst + 1].member.name
    if steps[worst] > 1.5 * step:
        missing = round(float(steps[worst]) / step) - 1
        problem = f"lacks {missing} slices of {step:.2f} mm between {before} and {after}"
        raise InputError(root, problem, "export the whole series again")
    even = np.linspace(positions[0], positions[-1], len(slices))
    off = np.linalg.norm(positions - even, axis=1)
    if abs(steps[worst] - step) > UNEVEN * step or off.max() > max(UNEVEN * step, 0.05):
        if abs(steps[worst] - step) <= UNEVEN * step:
            before = after = slices[int(off.argmax())].member.name
        problem = (
            f"has uneven steps: {steps.min():.2f} to {steps.max():.2f} mm, at {before}, {after}"
        )
        raise InputError(root, problem, "separate the parts, or export evenly spaced slices")


def _tilt_degrees(series: Series) -> float:
    step = series.affine[:3, 2]
    cosine = abs(float(step @ _normal(series.slices[0].header))) / float(np.linalg.norm(step))
    return float(np.degrees(np.arccos(min(cosine, 1.0))))
