"""Cine: frames one after the other, from a DICOM file, a video, a folder, a camera or a watched folder."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from samling.data.readers.bounds import check_pixels, kind_of, read_head
from samling.data.readers.plane import ImagePlane, read_any
from samling.errors import InputError

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".mpg")
CAMERA = "camera:"
_POLL_S = 0.1


@dataclass(frozen=True)
class Cine:
    """A stream of grey frames, read when it is asked for the next one.

    Args:
        frames: (H, W) each, all of one size.
        rate: frames per second, as the source says; None: it does not.
        spacing_mm: (row, column) size of a pixel; None: not known.
        count: how many frames; None: nobody knows.
    """

    frames: Iterator[NDArray[np.generic]]
    rate: float | None = None
    spacing_mm: tuple[float, float] | None = None
    count: int | None = None


def open_cine(source: str, *, hounsfield: bool = False) -> Cine:
    """Open a stream.

    Args:
        source: a DICOM file, a video (by its suffix), a folder of images in the order of their names,
            or `camera:0`.
        hounsfield: whether frames must be in Hounsfield units.

    Raises:
        InputError: it is none of these, cannot be read, is too large, or of other units; of a folder
            the first frame is looked at, the others when they come.
    """
    path = Path(source)
    if hounsfield and (source.startswith(CAMERA) or path.suffix.lower() in VIDEO_SUFFIXES):
        raise _no_hounsfield(source)
    if source.startswith(CAMERA):
        number = source.removeprefix(CAMERA)
        if not number.isdecimal():
            raise InputError(source, "names no camera", "write camera:0")
        return _captured(source, int(number))
    if path.is_dir():
        names = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
        files = [p for p in names if kind_of(read_head(p)) is not None]
        if not files:
            raise InputError(path, "holds no image", "name a folder of PNG, JPEG or DICOM frames")
        first = read_any(files[0])
        _check_units(files[0], first, hounsfield)
        frames = _same_size(((path, read_any(path)) for path in files), hounsfield=hounsfield)
        return Cine(frames, spacing_mm=first.spacing_mm, count=len(files))
    if path.suffix.lower() in VIDEO_SUFFIXES:
        read_head(path)  # exists, and is not absurdly large
        return _captured(source, source)
    if kind_of(read_head(path)) == "DICOM":
        return _dicom(path, hounsfield)
    raise InputError(
        path, "is no cine loop", "give DICOM, MP4, AVI, a folder of frames or camera:0"
    )


def watch(folder: Path, idle_s: float, *, hounsfield: bool = False) -> Cine:
    """Every image that is written into `folder` from now on, as soon as it is whole.

    A file is tried when its size is the same at two looks, and, if it cannot be read, tried again when
    its size has changed: a scanner may pause in the middle of a file. Ends when nothing came for
    `idle_s` seconds. A frame of another size is passed over. But one that is not in Hounsfield units,
    where they must be (`hounsfield`), ends the stream with an InputError.

    Raises:
        InputError: there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(folder, "is no folder", "name the folder that the scanner writes into")
    return Cine(_same_size(_arriving(folder, idle_s), strict=False, hounsfield=hounsfield))


def _arriving(folder: Path, idle_s: float) -> Iterator[tuple[Path, ImagePlane]]:
    seen = set(folder.iterdir())
    sizes: dict[Path, int] = {}
    unreadable: dict[Path, int] = {}
    last = time.monotonic()
    while time.monotonic() - last < idle_s:
        for path in sorted(set(folder.iterdir()) - seen):
            size = 0 if path.name.startswith(".") else _size(path)
            steady = size > 0 and sizes.get(path) == size
            sizes[path] = size
            if not steady or unreadable.get(path) == size:
                continue
            try:
                plane = read_any(path)
            except InputError:
                unreadable[path] = size
                continue
            seen.add(path)
            del sizes[path]
            unreadable.pop(path, None)
            yield path, plane
            last = time.monotonic()
        time.sleep(_POLL_S)


def _size(path: Path) -> int:
    """Bytes; 0 for what is no file, or no longer there."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0


def _same_size(
    planes: Iterable[tuple[Path, ImagePlane]], *, strict: bool = True, hounsfield: bool = False
) -> Iterator[NDArray[np.generic]]:
    shape: tuple[int, ...] | None = None
    for path, plane in planes:
        values = plane.values
        if values.shape != (shape or values.shape):
            if not strict:
                continue
            problem = f"has {values.shape[1]} x {values.shape[0]} pixels, unlike the first frame"
            raise InputError(path, problem, "give frames of one size")
        _check_units(path, plane, hounsfield)
        shape = values.shape
        yield values


def _check_units(path: Path, plane: ImagePlane, hounsfield: bool) -> None:
    if hounsfield and not plane.hounsfield:
        raise _no_hounsfield(path)


def _no_hounsfield(source: str | Path) -> InputError:
    problem = "has no Hounsfield units, which the window of this model needs"
    return InputError(source, problem, "give DICOM files of a CT, or a model without a window")


def _dicom(path: Path, hounsfield: bool) -> Cine:
    from samling.data.readers.dicom import read_dicom, read_frames, read_header

    header, first = read_header(path), read_dicom(path)
    _check_units(path, first, hounsfield)
    if first.frames == 1:
        raise InputError(path, "is a still: it has one frame", "use samling predict")
    rates = [header.get(name) for name in ("CineRate", "RecommendedDisplayFrameRate")]
    if header.get("FrameTime"):
        rates.insert(0, 1000 / max(float(header.FrameTime), 1e-3))
    rate = next((min(max(float(rate), 0.1), 1000.0) for rate in rates if rate), None)
    frames = (plane.values for plane in read_frames(path))
    return Cine(frames, rate, first.spacing_mm, first.frames)


def _captured(source: str, opened: str | int) -> Cine:
    capture = cv2.VideoCapture(opened)
    if not capture.isOpened():
        raise InputError(
            source, "cannot be opened as a video", "check the path, or convert it to MP4"
        )
    rows, columns = (
        int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)
    )
    check_pixels(Path(source), rows, columns)
    rate = capture.get(cv2.CAP_PROP_FPS)
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if isinstance(opened, str) else 0
    known = rate if 0.1 <= rate <= 1000 else None
    return Cine(_grabbed(capture), known, count=count if count > 0 else None)


def _grabbed(capture: cv2.VideoCapture) -> Iterator[NDArray[np.generic]]:
    try:
        while True:
            there, frame = capture.read()
            if not there:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) if frame.ndim == 3 else frame
    finally:
        capture.release()
