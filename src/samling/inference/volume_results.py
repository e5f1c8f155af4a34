"""Results of volumes: NIfTI, DICOM SEG, a picture of several slices, one table for all volumes."""

import csv
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from samling.atomic import atomic_path
from samling.data.intensity import Intensity
from samling.data.readers.volume_file import stem_of, write_nifti
from samling.data.volume import Volume
from samling.errors import InputError
from samling.inference.dicom_seg import Author, write_seg
from samling.inference.measure_volume import VolumeMeasurement
from samling.inference.overlay import COLOURS, legend, write_png
from samling.inference.results import ResultFolder

FORMATS = ("png", "nifti", "dicom-seg")
COLUMNS = (
    "file", "class", "part", "volume_ml", "parts", "longest_diameter_mm", "share_percent",
    "first_slice", "last_slice", "spacing_slice_mm", "spacing_row_mm", "spacing_column_mm",
    "nifti", "dicom_seg",
)  # fmt: skip
_TILES, _COLUMNS, _TILE_PX = 12, 4, 256
_ENDING = {"nifti": ".nii.gz", "dicom-seg": "_seg.dcm", "png": "_overlay.png"}
_ENDING["uncertainty"] = "_uncertainty.nii.gz"


class VolumeTable:
    """Rows of `volumes.csv`, one per class, one per lesion or other separate part, one for all specks."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "volumes.csv"
        self._rows: list[dict[str, object]] = []

    def add(self, volume: Volume, rows: list[VolumeMeasurement], files: dict[str, Path]) -> None:
        """Remember what was measured, and the files (by format) that show it."""
        shared: dict[str, object] = dict(
            zip(
                ("spacing_slice_mm", "spacing_row_mm", "spacing_column_mm"),
                (f"{step:.5g}" for step in volume.spacing_mm),
                strict=True,
            )
        )
        written: dict[str, object] = {
            key: files[name].name
            for key, name in (("nifti", "nifti"), ("dicom_seg", "dicom-seg"))
            if name in files
        }
        for row in rows:
            first, last = row.slices or (None, None)
            widest = row.longest_diameter_mm
            measured: dict[str, object] = {
                "file": volume.source.name, "class": row.class_name,
                "part": "all" if row.part is None else row.part,
                "volume_ml": f"{row.volume_ml:.4f}", "parts": row.parts,
                "longest_diameter_mm": None if widest is None else f"{widest:.2f}",
                "share_percent": f"{row.share_percent:.3f}",
                "first_slice": first, "last_slice": last,
            }  # fmt: skip
            self._rows.append(measured | shared | written)

    def write(self) -> None:
        """Write the table.

        Raises:
            InputError: the folder cannot be written.
        """
        try:
            with (
                atomic_path(self.path) as temporary,
                temporary.open("w", newline="", encoding="utf-8") as file,
            ):
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(self._rows)
        except OSError as error:
            problem = f"cannot be written ({error.strerror or error})"
            raise InputError(self.path, problem, "free space or name another folder") from error


def write_volume(
    results: ResultFolder,
    volume: Volume,
    labels: NDArray[np.uint8],
    author: Author,
    formats: tuple[str, ...],
    intensity: Intensity,
    *,
    uncertainty: NDArray[np.uint8] | None = None,
) -> dict[str, Path]:
    """Write class numbers (D, H, W) of a volume in some `FORMATS`; returns the file of each.

    An `uncertainty` in percent goes beside the NIfTI file.

    Raises:
        InputError: the folder cannot be written, or a DICOM SEG of a volume that is no DICOM.
    """
    if "dicom-seg" in formats and not volume.headers:
        problem = "is no DICOM series, which a DICOM segmentation refers to"
        raise InputError(volume.source, problem, "ask for --format nifti")
    stem = stem_of(volume.source) if volume.source.is_file() else volume.source.resolve().name
    name = results.reserve(stem, tuple(_ENDING.values()))
    files = {one: results.folder / f"{name}{_ENDING[one]}" for one in formats}
    if uncertainty is not None and "nifti" in formats:
        files["uncertainty"] = results.folder / f"{name}{_ENDING['uncertainty']}"
    for one, path in files.items():
        if one == "uncertainty" and uncertainty is not None:
            write_nifti(path, uncertainty, volume)
        elif one == "nifti":
            write_nifti(path, labels, volume)
        elif one == "dicom-seg":
            write_seg(path, labels, volume.headers, results.classes, author)
        else:
            write_png(path, slices_picture(volume, labels, intensity, results.classes))
        results.wrote(path)
    return files


def slices_picture(
    volume: Volume, labels: NDArray[np.uint8], intensity: Intensity, classes: Sequence[str] = ()
) -> NDArray[np.uint8]:
    """Up to twelve slices, evenly over those that show anything, with the outlines of every class.

    Of several `classes` a legend below says which colour is which.
    """
    shown = np.flatnonzero(labels.any(axis=(1, 2)))
    shown = shown if len(shown) else np.arange(len(labels))
    picked = shown[np.unique(np.linspace(0, len(shown) - 1, _TILES).round().astype(int))]
    tiles = [
        _tile(volume.voxels[k], labels[k], int(k), volume.spacing_mm[1:], intensity) for k in picked
    ]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % _COLUMNS)
    rows = [np.hstack(tiles[i : i + _COLUMNS]) for i in range(0, len(tiles), _COLUMNS)]
    if len(classes) > 1:
        plate = legend(tuple(classes))[:, : rows[0].shape[1]]
        strip = np.zeros((plate.shape[0], *rows[0].shape[1:]), np.uint8)
        strip[:, : plate.shape[1]] = plate
        rows.append(strip)
    return np.ascontiguousarray(np.vstack(rows))


def _tile(
    plane: NDArray[np.generic],
    labels: NDArray[np.uint8],
    index: int,
    spacing_mm: tuple[float, float],
    intensity: Intensity,
) -> NDArray[np.uint8]:
    """One slice in its true proportions, longest side `_TILE_PX`."""
    height_mm, width_mm = plane.shape[0] * spacing_mm[0], plane.shape[1] * spacing_mm[1]
    scale = _TILE_PX / max(height_mm, width_mm)
    size = max(1, round(width_mm * scale)), max(1, round(height_mm * scale))
    grey = cv2.resize(intensity.apply(plane) * 255, size, interpolation=cv2.INTER_AREA)
    canvas = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    resized = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    for number in np.unique(resized[resized > 0]):
        own = (resized == number).astype(np.uint8)
        outlines, _ = cv2.findContours(own, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, outlines, -1, COLOURS[(int(number) - 1) % len(COLOURS)], 1)
    cv2.putText(
        canvas, str(index), (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA
    )
    return canvas
