"""NIfTI, MHA and NRRD: written by one library, read here, written here, read by another."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from samling.data.readers.volume_file import read_label_file, read_volume_file, stem_of, write_nifti
from samling.data.readers.volumes import read_series
from samling.errors import InputError

ARRAY = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7) - 50  # i, j, k
OBLIQUE = np.array([[0.8, -0.48, 0.36], [0.6, 0.64, -0.48], [0, 0.6, 0.8]])


def itk_image(array=ARRAY, directions=OBLIQUE):
    image = sitk.GetImageFromArray(array.T)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-10.5, 20.25, 3))
    image.SetDirection(directions.ravel())
    return image


@pytest.mark.parametrize("suffix", ["nii", "nii.gz", "mha", "mhd", "nrrd", "nhdr"])
def test_all_formats_place_voxels_alike(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    sitk.WriteImage(itk_image(), str(path))
    volume = read_volume_file(path)
    reference = sitk.ReadImage(str(path))
    for index in ((0, 0, 0), (3, 2, 1), tuple(n - 1 for n in volume.voxels.shape)):
        point = (volume.affine @ [*index, 1])[:3]
        there = reference.TransformPhysicalPointToIndex([float(v) for v in point])
        assert reference.GetPixel(*there) == volume.voxels[index]
    assert volume.voxels.dtype == np.int16
    np.testing.assert_array_equal(volume.grid.restore(volume.voxels), ARRAY)


@pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR", "SAL", "ASR"])
def test_any_orientation_of_nifti_is_upright_when_read(tmp_path: Path, axes: str) -> None:
    image = nibabel.Nifti1Image(ARRAY, np.diag([1, 2, 3, 1.0]))  # RAS
    target = nibabel.orientations.axcodes2ornt(axes)
    turned = image.as_reoriented(
        nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), target)
    )
    nibabel.save(turned, tmp_path / "a.nii.gz")
    volume = read_volume_file(tmp_path / "a.nii.gz")
    # slices to the head (+S), rows to the back (-A), columns to the left (-R)
    np.testing.assert_array_equal(volume.voxels, ARRAY[::-1, ::-1].transpose(2, 1, 0))
    assert volume.spacing_mm == (3, 2, 1)


def test_labels_return_to_the_exact_grid_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    sitk.WriteImage(itk_image(), str(path))
    volume = read_volume_file(path)
    labels = (volume.voxels % 3).astype(np.uint8)
    write_nifti(tmp_path / "out.nii.gz", labels, volume)
    back = sitk.ReadImage(str(tmp_path / "out.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back).T, ARRAY % 3)
    for get in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(back, get)(), getattr(itk_image(), get)(), atol=1e-5)


def test_labels_of_a_dicom_series_lie_on_its_slices(tmp_path: Path, write_series) -> None:
    hu = ARRAY.transpose(2, 1, 0)
    paths = write_series(tmp_path / "ct", hu, orientation=(0.8, 0.6, 0, -0.48, 0.64, 0.6))
    volume = read_series(tmp_path / "ct")
    write_nifti(tmp_path / "out.nii.gz", (hu > 20).astype(np.uint8), volume)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in paths])
    source, back = reader.Execute(), sitk.ReadImage(str(tmp_path / "out.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(source) > 20)
    for get in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(back, get)(), getattr(source, get)(), atol=1e-5)


def test_scaled_nifti_gives_real_values(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(ARRAY, np.eye(4))
    image.header.set_slope_inter(2, -1024)
    nibabel.save(image, tmp_path / "a.nii")
    stored = nibabel.load(tmp_path / "a.nii")
    volume = read_volume_file(tmp_path / "a.nii")
    np.testing.assert_array_equal(volume.grid.restore(volume.voxels), stored.get_fdata())
    assert volume.voxels.dtype == np.int16


def save(path: Path, array, affine=None) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def test_labels_on_another_grid_or_without_classes_are_refused(tmp_path: Path) -> None:
    volume = read_volume_file(save(tmp_path / "a.nii", ARRAY))
    good = save(tmp_path / "l.nii", (ARRAY > 0).astype(np.uint8))
    assert read_label_file(good, volume).sum() == (ARRAY > 0).sum()
    moved = np.eye(4)
    moved[0, 3] = 1
    for array, affine in ((ARRAY > 0, moved), ((ARRAY > 0)[:-1], None), (ARRAY, None)):
        bad = save(tmp_path / "b.nii", array.astype(np.int16), affine)
        with pytest.raises(InputError, match="another grid|has values"):
            read_label_file(bad, volume)


def test_unusable_files(tmp_path: Path) -> None:
    four = save(tmp_path / "four.nii", np.zeros((3, 3, 3, 2), np.int16))
    flat = save(tmp_path / "flat.nii", np.zeros((3, 3), np.int16))
    hole = save(tmp_path / "nan.nii", np.full((3, 3, 3), np.nan, np.float32))
    thin = save(tmp_path / "thin.nii", ARRAY)
    content = bytearray(thin.read_bytes())
    content[312:328] = bytes(16)  # srow_z of the header
    thin.write_bytes(content)
    single = save(tmp_path / "single.nii", np.zeros((3, 4, 5, 1), np.int16))
    assert read_volume_file(single).voxels.shape == (5, 4, 3)
    short = tmp_path / "short.nii.gz"
    short.write_bytes(gzip.compress(four.read_bytes())[:-30])
    cases = (
        (four, "4 dimensions"), (flat, "2 dimensions"), (hole, "finite"), (thin, "affine"),
        (short, "short"), (tmp_path / "none.nii", "does not exist"),
    )  # fmt: skip
    for path, words in cases:
        with pytest.raises(InputError, match=words):
            read_volume_file(path)


def test_sizes_are_bounded_before_decoding(tmp_path: Path, monkeypatch) -> None:
    path = save(tmp_path / "a.nii", ARRAY)
    sitk.WriteImage(itk_image(), str(tmp_path / "a.nrrd"))
    monkeypatch.setattr("samling.data.readers.bounds.MAX_VOXELS", 100)
    for file in (path, tmp_path / "a.nrrd"):
        with pytest.raises(InputError, match="voxels, more than"):
            read_volume_file(file)


@pytest.mark.parametrize("suffix", ["mhd", "nhdr"])
def test_a_detached_header_may_not_point_elsewhere(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / f"a.{suffix}"
    sitk.WriteImage(itk_image(), str(path))
    name = next(p.name for p in path.parent.iterdir() if p.suffix in (".raw", ".zraw", ".gz"))
    (path.parent / name).rename(tmp_path / name)
    path.write_text(path.read_text().replace(name, f"../{name}"))
    with pytest.raises(InputError, match="not beside it"):
        read_volume_file(path)


def test_stems() -> None:
    assert [stem_of(Path(n)) for n in ("a.b.nii.gz", "c.NRRD", "d")] == ["a.b", "c", "d"]
