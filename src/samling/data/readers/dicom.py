"""DICOM: a frame as a grey plane, its pixel size, modality and patient; nothing is unbounded."""

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
from pydicom.pixels.utils import pixel_array

from samling.data.case import Modality
from samling.data.readers.bounds import check_pixels, read_head
from samling.data.readers.deflated import check_deflated
from samling.data.readers.plane import CT_OFFSET, ImagePlane
from samling.errors import InputError

MAX_FRAMES = 100_000
_CENTIMETRE = 3  # code of PhysicalUnitsXDirection
MODALITIES: dict[str, Modality] = {"US": "ultrasound", "IVUS": "ultrasound", "CT": "ct"}
_EXPORT = "export it again, uncompressed, from its source"


def read_dicom(path: str | Path, frame: int = 0) -> ImagePlane:
    """Read one frame of a DICOM file as a grey plane.

    Colour and palettes become luminance, MONOCHROME1 is inverted. CT becomes Hounsfield units plus
    1024 (so that air is 24 and nothing is negative), never inverted. `frames` of the result counts
    all frames.

    Raises:
        InputError: no DICOM, no pixels, damaged, too large, or no such frame.
    """
    path = Path(path)
    dataset = _header(path)
    frames = _frames(path, dataset)
    if not 0 <= frame < frames:
        raise InputError(path, f"has no frame {frame}", f"choose 0 to {frames - 1}")
    with decoding(path):
        return _plane(path, dataset, frame, frames)


def read_header(path: str | Path) -> Dataset:
    """What a DICOM file says of itself, without its pixels.

    Raises:
        InputError: damaged or no DICOM.
    """
    path = Path(path)
    head = read_head(path)
    with path.open("rb") as file:
        check_deflated(path, file)
    with decoding(path):
        return dcmread(path, force=head[128:132] != b"DICM", stop_before_pixels=True)


def read_frames(path: str | Path, limit: int | None = None) -> Iterator[ImagePlane]:
    """Read a cine loop frame by frame, at most `limit` of them; one plane in memory at a time.

    Raises:
        InputError: as `read_dicom`; also later, at the frame that is damaged.
    """
    path = Path(path)
    dataset = _header(path)
    frames = _frames(path, dataset)
    for frame in range(frames if limit is None else min(limit, frames)):
        with decoding(path):
            plane = _plane(path, dataset, frame, frames)
        yield plane


@contextmanager
def decoding(path: str | Path) -> Iterator[None]:
    """Turn whatever a decoder raises over damaged bytes into one InputError; keep it quiet."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # decoders written in Rust panic outside of Exception
        words = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(path, f"cannot be decoded as DICOM ({words})", _EXPORT) from error


def _header(path: Path) -> Dataset:
    head = read_head(path)
    with path.open("rb") as file:
        check_deflated(path, file)
    with decoding(path):
        dataset = dcmread(path, force=head[128:132] != b"DICM")
        if not any(
            key in dataset for key in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
        ):
            raise InputError(path, "has no pixels", "give an image, not a report or a presentation")
        if "PixelData" not in dataset:
            raise InputError(path, "has floating-point pixels", "export it with 8 or 16 bits")
        return dataset


def _frames(path: Path, dataset: Dataset) -> int:
    """Number of frames, after a look at what the header claims."""
    with decoding(path):
        rows, columns = int(dataset.Rows), int(dataset.Columns)
        frames = int(dataset.get("NumberOfFrames") or 1)
        bits = int(dataset.BitsAllocated)
        samples = int(dataset.get("SamplesPerPixel", 1))
    check_pixels(path, rows, columns)
    if not 1 <= frames <= MAX_FRAMES:
        raise InputError(path, f"claims {frames} frames", _EXPORT)
    if bits not in (1, 8, 16, 32) or samples not in (1, 3):
        raise InputError(path, f"claims {bits} bits and {samples} samples per pixel", _EXPORT)
    return frames


def _plane(path: Path, dataset: Dataset, frame: int, frames: int) -> ImagePlane:
    values = pixel_array(dataset, index=frame)
    notes: tuple[str, ...] = ()
    kind = str(dataset.get("PhotometricInterpretation", ""))
    if kind == "PALETTE COLOR":
        values = _coloured(values, dataset)
    if values.ndim == 3:
        coloured = bool((values != values[..., :1]).any())
        notes = ("colour turned to grey",) if coloured else ()
        grey = _luminance(path, values)
    else:
        grey, notes = _monochrome(path, dataset, values)
    if grey.dtype == np.uint16:
        notes = (*notes, "16-bit")
    spacing, remarks = _spacing(dataset)
    modality = MODALITIES.get(str(dataset.get("Modality", "")), "unknown")
    return ImagePlane(
        pixels=grey,
        spacing_mm=spacing,
        modality=modality,
        notes=(*notes, *remarks),
        frames=frames,
        patient=patient_hash(dataset),
        hounsfield=modality == "ct" and values.ndim == 2,
    )


def patient_hash(dataset: Dataset) -> str | None:
    """PatientID as 16 hexadecimal digits: equal for equal patients, and nobody's name."""
    name = str(dataset.get("PatientID") or "").strip("\0 ")
    return hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:16] if name else None


def _coloured(indices: NDArray[np.generic], dataset: Dataset) -> NDArray[np.generic]:
    """Indices -> RGB; 16-bit colours of 8-bit indices are cut to their high byte."""
    colour = apply_color_lut(indices, dataset)[..., :3]
    if indices.dtype.itemsize == 1 and colour.dtype == np.uint16:
        return (colour >> 8).astype(np.uint8)
    return colour


def _luminance(path: Path, colour: NDArray[np.generic]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """(H, W, 3) RGB -> (H, W) by ITU-R 601, as Pillow does it."""
    if colour.dtype.kind != "u" or colour.dtype.itemsize > 2:
        raise InputError(path, "has colours beyond 16 bits", "export it with 8 or 16 bits")
    grey = np.round(colour[..., :3].astype(np.float64) @ np.array([0.299, 0.587, 0.114]))
    return grey.astype(np.uint8) if colour.dtype.itemsize == 1 else grey.astype(np.uint16)


def _monochrome(
    path: Path, dataset: Dataset, values: NDArray[np.generic]
) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], tuple[str, ...]]:
    notes: tuple[str, ...] = ()
    whole = values.astype(np.int64)
    hounsfield_units = dataset.get("Modality") == "CT"
    if hounsfield_units:
        hounsfield = np.round(apply_modality_lut(values, dataset)).astype(np.int64)
        whole = np.clip(hounsfield + CT_OFFSET, 0, 65535)
        notes = (f"stored as Hounsfield units + {CT_OFFSET}",)
    elif int(dataset.get("PixelRepresentation", 0)) == 1:
        lowest = -(1 << (int(dataset.BitsStored) - 1))
        whole = whole - lowest
        notes = (f"signed values stored as value + {-lowest}",)
    # Hounsfield units are what was measured: MONOCHROME1 only says how to show them.
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1" and not hounsfield_units:
        whole = (1 << int(dataset.BitsStored)) - 1 - whole
        notes = (*notes, "inverted: it is stored with white as 0")
    if whole.min() < 0 or whole.max() > 65535:
        raise InputError(path, "has pixels beyond 16 bits", "export it with 8 or 16 bits")
    # The offset leaves the 8 bits of a narrow CT; planes of one file are of one width.
    narrow = values.dtype.itemsize == 1 and not hounsfield_units and whole.max() <= 255
    return whole.astype(np.uint8) if narrow else whole.astype(np.uint16), notes


def _spacing(dataset: Dataset) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """(row, column) pixel size in mm, and a remark where the file contradicts itself."""
    stated = dataset.get("PixelSpacing")
    if stated is not None and len(stated) == 2:
        return _plausible(float(stated[0]), float(stated[1])), ()
    regions = [
        region for region in dataset.get("SequenceOfUltrasoundRegions") or () if _is_2d(region)
    ]
    if not regions:
        return None, ()
    sizes = [
        _plausible(10 * abs(region.PhysicalDeltaY), 10 * abs(region.PhysicalDeltaX))
        for region in sorted(regions, key=_area, reverse=True)
    ]
    first = sizes[0]
    if first and any(size is None or not np.allclose(size, first, rtol=0.01) for size in sizes):
        return first, ("has ultrasound regions of different scales: the largest counts",)
    return first, ()


def _is_2d(region: Dataset) -> bool:
    """A region of tissue measured in cm both ways (no Doppler spectrum, no M-mode)."""
    units = (region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection"))
    deltas = (region.get("PhysicalDeltaX"), region.get("PhysicalDeltaY"))
    return units == (_CENTIMETRE, _CENTIMETRE) and None not in deltas


def _area(region: Dataset) -> int:
    names = ("MinX0", "MinY0", "MaxX1", "MaxY1")
    x0, y0, x1, y1 = (int(region.get(f"RegionLocation{name}", 0)) for name in names)
    return max(0, x1 - x0) * max(0, y1 - y0)


def _plausible(row: float, column: float) -> tuple[float, float] | None:
    return (row, column) if 1e-4 < row < 100 and 1e-4 < column < 100 else None
