"""Volumes from DICOM series: every slice decoded by its own rescale values into one array."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.pixels.utils import pixel_array

from samling.data.readers.bounds import check_voxels
from samling.data.readers.dicom import MODALITIES, decoding, patient_hash
from samling.data.readers.members import Member
from samling.data.readers.series import Series, Slice, check_geometry, choose_series, find_series
from samling.data.volume import Grid, Volume
from samling.errors import InputError

AIR_HU = -1024
"""What a CT shows where nothing was measured (pixel padding)."""


def read_series(
    root: str | Path, series: str | None = None, members: Sequence[Member] | None = None
) -> Volume:
    """Read the DICOM series of a folder or zip.

    CT becomes Hounsfield units, slice by slice; padding becomes air.

    Args:
        series: number or UID, where there are several.
        members: only these files of `root`.

    Raises:
        InputError: none or several series, slices missing or in conflict, damaged files, a CT
            without rescale values.
    """
    root = Path(root)
    chosen = check_geometry(root, choose_series(root, find_series(root, members), series))
    header = chosen.slices[0].header
    shape = (len(chosen.slices), int(header.Rows), int(header.Columns))
    check_voxels(root, shape)
    _check_rescale(root, chosen)
    voxels = np.empty(shape, _type(chosen.slices))
    padded = 0
    for plane, one in zip(voxels, chosen.slices, strict=True):
        plane[:], padding = _decode(one)
        padded += padding
    notes = (*chosen.notes, f"{padded} padding voxels set to air") if padded else chosen.notes
    return Volume(
        voxels=voxels,
        grid=Grid((shape[2], shape[1], shape[0]), chosen.affine),
        source=root,
        modality=MODALITIES.get(str(header.get("Modality", "")), "unknown"),
        patient=patient_hash(header),
        headers=tuple(one.header for one in chosen.slices),
        names=tuple(one.member.name for one in chosen.slices),
        notes=notes,
    )


def read_marks(root: Path, members: Sequence[Member], volume: Volume) -> NDArray[np.bool_]:
    """A series of mask files -> (D, H, W), True where they are not 0, on the slices of `volume`.

    Raises:
        InputError: as `read_series`, or a mask lies where the volume has no slice.
    """
    found = find_series(root, members)
    if len(found) > 1:
        raise InputError(root, f"holds {len(found)} series of masks", "keep one")
    series = check_geometry(root, found[0])
    marks = np.zeros(volume.voxels.shape, bool)
    inverse = np.linalg.inv(volume.affine)
    for one in series.slices:
        index = (inverse @ [*one.position, 1])[:3]
        if np.abs(index - np.round(index)).max() > 0.1 or np.round(index[1:]).any():
            raise InputError(one.member.where, "lies beside every slice of the scan", "check it")
        place = round(float(index[0]))
        pixels = _pixels(one)[0]
        if not 0 <= place < len(marks) or pixels.shape != marks.shape[1:]:
            raise InputError(one.member.where, "does not fit the scan", "check that they belong")
        marks[place] = pixels != 0
    return marks


def _check_rescale(root: Path, series: Series) -> None:
    for one in series.slices:
        header = one.header
        if header.get("Modality") != "CT":
            return
        values = [header.get("RescaleSlope"), header.get("RescaleIntercept")]
        if None in values or not np.isfinite(np.array(values, dtype=np.float64)).all():
            problem = f"has no rescale slope and intercept in {one.member.name}"
            raise InputError(root, problem, "export the original CT: grey values are no HU")


def _rescale(header: Dataset) -> tuple[float, float]:
    slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
    return (1.0 if slope is None else float(slope)), 0.0 if intercept is None else float(intercept)


def _type(slices: Sequence[Slice]) -> type[np.int16] | type[np.float32]:
    """int16 if no slice can leave it, as far as the headers tell."""
    for one in slices:
        slope, intercept = _rescale(one.header)
        bits = int(one.header.get("BitsStored", 16))
        signed = int(one.header.get("PixelRepresentation", 0)) == 1
        ends = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
        reached = [slope * end + intercept for end in ends]
        whole = slope.is_integer() and intercept.is_integer()
        if not whole or min(reached) < -32768 or max(reached) > 32767:
            return np.float32
    return np.int16


def _pixels(one: Slice) -> tuple[NDArray[Any], Dataset]:
    with decoding(one.member.where):
        content = one.member.read()
        dataset = dcmread(io.BytesIO(content), force=content[128:132] != b"DICM")
        if "PixelData" not in dataset:
            raise InputError(one.member.where, "has no pixels", "copy it again from its source")
        pixels = pixel_array(dataset)
    if pixels.shape != (int(one.header.Rows), int(one.header.Columns)):
        raise InputError(one.member.where, "has pixels of another size", "copy it again")
    return pixels, dataset


def _decode(one: Slice) -> tuple[NDArray[np.float64], int]:
    """One slice in real values, and how many of its pixels are padding."""
    pixels, dataset = _pixels(one)
    slope, intercept = _rescale(dataset)
    values = pixels.astype(np.float64) * slope + intercept
    padding = dataset.get("PixelPaddingValue")
    if padding is None or dataset.get("Modality") != "CT":
        return values, 0
    other = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((int(padding), int(padding if other is None else other)))
    padded = (pixels >= low) & (pixels <= high)
    values[padded] = AIR_HU
    return values, int(np.count_nonzero(padded))
