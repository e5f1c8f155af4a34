"""Volume: the voxels of one scan as upright slices, and the exact way back to the file's own grid."""

from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from samling.data.case import Modality

if TYPE_CHECKING:
    from pydicom import Dataset

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class Grid:
    """The grid of a file, and how it is turned to be looked at slice by slice.

    Patient coordinates are DICOM's: x to the patient's left, y to the back, z to the head (LPS), mm.

    Args:
        shape: of the file's array, axes in the file's order (NIfTI: i, j, k; DICOM: column, row, slice).
        affine: (4, 4) file index -> mm; its columns need not be at right angles (gantry tilt).
        axes: the file axes that become slice, row and column.
        flips: whether slice, row and column run against the file.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    axes: tuple[int, int, int] = (2, 1, 0)
    flips: tuple[bool, bool, bool] = (False, False, False)

    @classmethod
    def axial(cls, shape: tuple[int, int, int], affine: NDArray[np.float64]) -> "Grid":
        """Turned to the nearest axial view: slices to the head, rows to the back, columns to the left."""
        steps = affine[:3, :3]
        cosines = steps / np.linalg.norm(steps, axis=0)  # (patient axis, file axis)
        x, y, z = max(
            permutations(range(3)),
            key=lambda order: sum(abs(cosines[axis, order[axis]]) for axis in range(3)),
        )
        flips = tuple(
            bool(cosines[axis, file] < 0) for axis, file in zip((2, 1, 0), (z, y, x), strict=True)
        )
        return cls(shape, affine, (z, y, x), (flips[0], flips[1], flips[2]))

    def view(self, array: NDArray[T]) -> NDArray[T]:
        """An array in the file's order -> (slice, row, column). No copy."""
        turned = np.transpose(array, self.axes)
        return np.flip(turned, self._backwards)

    def restore(self, array: NDArray[T]) -> NDArray[T]:
        """(slice, row, column) -> the file's order. Inverse of `view`."""
        unflipped = np.flip(array, self._backwards)
        return np.transpose(unflipped, np.argsort(self.axes))

    @property
    def _backwards(self) -> tuple[int, ...]:
        return tuple(axis for axis in range(3) if self.flips[axis])

    @property
    def view_affine(self) -> NDArray[np.float64]:
        """(4, 4) index (slice, row, column) -> mm."""
        turn = np.zeros((4, 4))  # (slice, row, column, 1) -> file index
        turn[3, 3] = 1
        for axis, (file, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            turn[file, axis] = -1 if flip else 1
            turn[file, 3] = self.shape[file] - 1 if flip else 0
        return self.affine @ turn


@dataclass(frozen=True)
class Volume:
    """One scan.

    DICOM slices are seen as they were stored, in the order of their positions; volume files in the
    nearest axial view.

    Args:
        voxels: (D, H, W) int16 where the values allow it, else float32; Hounsfield units for CT.
        grid: of the file; results go back through it.
        source: file, zip or folder that it came from.
        patient: whose scan it is, as a hash; None if not said.
        headers: DICOM headers without pixels, slice by slice; empty for volume files.
        names: of the slices' files; empty for volume files.
        notes: what was mended or is odd, in words.
    """

    voxels: NDArray[Any]
    grid: Grid
    source: Path
    modality: Modality = "unknown"
    patient: str | None = None
    headers: "tuple[Dataset, ...]" = ()
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def affine(self) -> NDArray[np.float64]:
        """(4, 4) index (slice, row, column) -> mm, LPS."""
        return self.grid.view_affine

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring slices, rows and columns (along their own direction)."""
        steps = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(steps[0]), float(steps[1]), float(steps[2])

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres; right for sheared grids too."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000


def smallest_type(voxels: NDArray[Any]) -> NDArray[Any]:
    """The same values as int16 if they are whole numbers that fit, else as float32."""
    if voxels.dtype == np.int16 or voxels.dtype == np.float32:
        return voxels
    if voxels.dtype.kind in "iub":
        fits = voxels.size == 0 or (voxels.min() >= -32768 and voxels.max() <= 32767)
        return voxels.astype(np.int16 if fits else np.float32)
    low, high = float(voxels.min()), float(voxels.max())
    whole = low >= -32768 and high <= 32767 and all(not np.mod(plane, 1).any() for plane in voxels)
    return voxels.astype(np.int16 if whole else np.float32)
