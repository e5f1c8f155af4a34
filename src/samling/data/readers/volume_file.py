"""Volume files: NIfTI through nibabel, MHA/MHD and NRRD through SimpleITK, in any orientation."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samling.atomic import atomic_path
from samling.data.readers.bounds import check_voxels, read_head
from samling.data.volume import Grid, Volume, smallest_type
from samling.errors import InputError

NIFTI = (".nii", ".nii.gz")
ITK = (".mha", ".mhd", ".nrrd", ".nhdr")
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # NIfTI counts to the right and to the front
_DATA_FILE = re.compile(rb"^\s*(?:ElementDataFile\s*=|data ?file\s*:)\s*(.+?)\s*$", re.I | re.M)


def is_volume_file(path: Path) -> bool:
    """By its name: .nii, .nii.gz, .mha, .mhd, .nrrd or .nhdr."""
    return path.name.lower().endswith((*NIFTI, *ITK))


def stem_of(path: Path) -> str:
    """Name without the suffix of a volume file.

    >>> stem_of(Path("scans/liver_7.nii.gz"))
    'liver_7'
    """
    suffix = next((s for s in (".nii.gz", *NIFTI, *ITK) if path.name.lower().endswith(s)), "")
    return path.name[: -len(suffix)] if suffix else path.stem


def read_volume_file(path: str | Path) -> Volume:
    """Read a volume in the nearest axial view; its grid leads back to the file's own.

    Raises:
        InputError: missing, damaged, too large, not three-dimensional, or without a usable affine.
    """
    path = Path(path)
    read_head(path)
    name = path.name.lower()
    if name.endswith(NIFTI):
        array, affine = _nifti(path)
    elif name.endswith(ITK):
        array, affine = _itk(path)
    else:
        raise InputError(path, "is no volume file", f"give one of {', '.join((*NIFTI, *ITK))}")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise InputError(path, "has no usable affine: voxels without a size", "export it again")
    grid = Grid.axial((array.shape[0], array.shape[1], array.shape[2]), affine)
    voxels = np.ascontiguousarray(grid.view(smallest_type(array)))
    if voxels.dtype == np.float32 and not np.isfinite(voxels).all():
        raise InputError(path, "has voxels that are no finite numbers", "replace them, then retry")
    return Volume(voxels, grid, path)


def read_label_file(path: str | Path, volume: Volume) -> NDArray[np.uint8]:
    """Class numbers of a label file on the slices of `volume`: (D, H, W).

    Raises:
        InputError: as `read_volume_file`; another grid; values that are no class numbers 0 to 255.
    """
    labels = read_volume_file(path)
    same = labels.voxels.shape == volume.voxels.shape
    # tools round affines differently: a tenth of a voxel at the far corner is still the same grid
    far = np.array([*volume.voxels.shape, 1.0])
    apart = np.abs((labels.affine - volume.affine)[:3] @ far).max()
    if not same or apart > 0.1 * min(volume.spacing_mm):
        problem = f"lies on another grid than {volume.source.name}"
        raise InputError(path, problem, "resample the labels to the scan")
    low, high = float(labels.voxels.min()), float(labels.voxels.max())
    whole = labels.voxels.dtype == np.int16 or not np.mod(labels.voxels, 1).any()
    if low < 0 or high > 255 or not whole:
        raise InputError(path, f"has values {low:g} to {high:g}", "give class numbers 0 to 255")
    return labels.voxels.astype(np.uint8)


def write_nifti(path: str | Path, labels: NDArray[np.uint8], volume: Volume) -> None:
    """Write (D, H, W) class numbers on the grid of the volume's own file, as .nii.gz.

    Raises:
        InputError: the file cannot be written.
    """
    import nibabel

    image = nibabel.Nifti1Image(volume.grid.restore(labels), _LPS @ volume.grid.affine)
    image.header.set_xyzt_units("mm")
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(_gzip(image.to_bytes()))
    except OSError as error:
        problem = f"cannot be written ({error.strerror or error})"
        raise InputError(path, problem, "free space or name another folder") from error


def _gzip(content: bytes) -> bytes:
    import gzip

    return gzip.compress(content, compresslevel=3, mtime=0)  # the same labels, the same bytes


def _nifti(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    import nibabel

    try:
        image = nibabel.load(path)
        shape = _three(path, tuple(int(n) for n in image.shape))
        check_voxels(path, shape)
        raw = np.asanyarray(image.dataobj.get_unscaled()).reshape(shape)
        slope, offset = image.dataobj.slope, image.dataobj.inter
        affine = _LPS @ np.asarray(image.affine, dtype=np.float64)
    except InputError:
        raise
    except Exception as error:  # damaged headers and streams raise anything
        words = " ".join(str(error).split())[:120]
        raise InputError(path, f"cannot be read as NIfTI ({words})", "export it again") from error
    return (raw if (slope, offset) == (1.0, 0.0) else _scaled(raw, slope, offset)), affine


def _scaled(raw: NDArray[Any], slope: float, offset: float) -> NDArray[Any]:
    """Plane by plane: a whole volume in double precision would not fit."""
    values = np.empty(raw.shape, np.float32)
    for index in range(raw.shape[2]):
        values[..., index] = raw[..., index].astype(np.float64) * slope + offset
    whole = float(slope).is_integer() and float(offset).is_integer()
    fits = whole and values.min() >= -32768 and values.max() <= 32767
    return values.astype(np.int16) if fits else values


def _itk(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    import SimpleITK as sitk  # noqa: N813 - its own abbreviation

    _check_data_file(path)
    try:
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        if reader.GetNumberOfComponents() != 1:
            raise InputError(path, "has several values per voxel", "give one grey volume")
        shape = _three(path, tuple(int(n) for n in reader.GetSize()))
        check_voxels(path, shape)
        image = reader.Execute()
    except RuntimeError as error:
        words = str(error).strip().splitlines()[-1][:120]
        raise InputError(path, f"cannot be read ({words})", "export it again") from error
    affine = np.eye(4)
    directions = np.array(image.GetDirection()).reshape(image.GetDimension(), -1)[:3, :3]
    affine[:3, :3] = directions * np.array(image.GetSpacing()[:3])
    affine[:3, 3] = image.GetOrigin()[:3]
    array = sitk.GetArrayFromImage(image).T  # (z, y, x) -> (x, y, z)
    return array.reshape(shape), affine


def _check_data_file(path: Path) -> None:
    """A detached header may name any file: only one that lies beside it is followed."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    for name in _DATA_FILE.findall(head.split(b"\n\n")[0] if head.startswith(b"NRRD") else head):
        text = name.decode("utf-8", "replace")
        if text.upper() == "LOCAL":
            return
        if "/" in text or "\\" in text or not (path.parent / text).is_file():
            problem = f"keeps its voxels in {text!r}, which is not beside it"
            raise InputError(path, problem, "put both files in one folder")


def _three(path: Path, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Three dimensions; further ones must be of length 1."""
    if len(shape) < 3 or any(n != 1 for n in shape[3:]):
        size = " x ".join(map(str, shape))
        problem = f"has {len(shape)} dimensions ({size})"
        raise InputError(path, problem, "give one volume of three dimensions")
    return shape[0], shape[1], shape[2]
