"""DICOM series: made ones with known voxels, spoilt ones, and one real patient."""

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from samling.data.readers.members import members_of
from samling.data.readers.volumes import AIR_HU, read_marks, read_series
from samling.errors import InputError

HU = np.arange(5 * 6 * 8).reshape(5, 6, 8).astype(np.int16) * 3 - 400


def test_slices_come_by_position_and_not_by_name(tmp_path: Path, write_series) -> None:
    paths = write_series(tmp_path / "ct", HU)
    volume = read_series(tmp_path / "ct")
    np.testing.assert_array_equal(volume.voxels, HU)
    assert volume.voxels.dtype == np.int16 and volume.modality == "ct" and volume.notes == ()
    assert volume.names == tuple(path.name for path in paths) != tuple(sorted(volume.names))
    assert volume.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    expected = np.array([[0, 0, 0.7, -100], [0, 0.8, 0, -80], [2.5, 0, 0, 30], [0, 0, 0, 1]])
    np.testing.assert_allclose(volume.affine, expected, atol=1e-9)


def test_a_zip_reads_like_its_folder(tmp_path: Path, write_series) -> None:
    write_series(tmp_path / "ct", HU)
    shutil.make_archive(str(tmp_path / "all"), "zip", tmp_path, "ct")
    volume = read_series(tmp_path / "all.zip")
    np.testing.assert_array_equal(volume.voxels, HU)


@pytest.mark.parametrize(
    "orientation",
    [
        (1, 0, 0, 0, 0, -1),  # coronal
        (-1, 0, 0, 0, -1, 0),  # prone
        (0.8, 0.6, 0, -0.48, 0.64, 0.6),  # oblique
        (0, 1, 0, 1, 0, 0),  # normal to the feet
    ],
)
def test_any_orientation_places_voxels_as_the_standard_says(
    tmp_path: Path, write_series, orientation
) -> None:
    write_series(tmp_path, HU, orientation=orientation)
    volume = read_series(tmp_path)
    header = volume.headers[3]
    # PS3.3 C.7.6.2.1.1: P = X * column spacing * i + Y * row spacing * j + S, worked for i=5, j=2
    x, y = np.array(orientation[:3]), np.array(orientation[3:])
    point = np.array(header.ImagePositionPatient) + x * 0.7 * 5 + y * 0.8 * 2
    np.testing.assert_allclose((volume.affine @ [3, 2, 5, 1])[:3], point, atol=1e-5)
    np.testing.assert_array_equal(volume.voxels, HU)


def test_every_slice_has_its_own_rescale(tmp_path: Path, write_series) -> None:
    hu = HU // 12 * 12
    write_series(tmp_path, hu, rescale=lambda k: (k + 1 if k < 4 else 2, -1200 - 12 * k))
    np.testing.assert_array_equal(read_series(tmp_path).voxels[:4], hu[:4])
    np.testing.assert_array_equal(read_series(tmp_path).voxels, hu)


def test_fractions_and_wide_values_are_kept_as_floats(tmp_path: Path, write_series) -> None:
    write_series(tmp_path, HU, rescale=lambda k: (0.5, -1000.25))
    expected = np.round((HU + 1000.25) / 0.5) * 0.5 - 1000.25
    assert read_series(tmp_path).voxels.dtype == np.float32
    np.testing.assert_allclose(read_series(tmp_path).voxels, expected)


def test_monochrome1_and_padding_leave_hounsfield_units_right(tmp_path: Path, write_series) -> None:
    def change(k, dataset):
        dataset.PhotometricInterpretation = "MONOCHROME1"
        dataset.PixelPaddingValue = int(HU[0, 0, 0]) + 1024

    write_series(tmp_path, HU, change=change)
    volume = read_series(tmp_path)
    assert volume.voxels[0, 0, 0] == AIR_HU and "1 padding" in volume.notes[0]
    np.testing.assert_array_equal(volume.voxels.ravel()[1:], HU.ravel()[1:])


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_slices(tmp_path: Path, write_series, syntax) -> None:
    wide = np.tile(HU, (1, 8, 8))
    paths = write_series(tmp_path, wide)
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.compress(syntax)
        dataset.save_as(path)
    np.testing.assert_array_equal(read_series(tmp_path).voxels, wide)
    assert pydicom.dcmread(paths[0]).file_meta.TransferSyntaxUID != ExplicitVRLittleEndian


def test_a_missing_slice_is_named(tmp_path: Path, write_series) -> None:
    paths = write_series(tmp_path, HU)
    paths[2].unlink()
    with pytest.raises(InputError, match=f"lacks 1 .*{paths[1].name} and {paths[3].name}"):
        read_series(tmp_path)


def test_uneven_steps_and_changing_pixels_are_named(tmp_path: Path, write_series) -> None:
    def moved(k, dataset):
        if k == 2:
            dataset.ImagePositionPatient[2] += 0.6

    def aside(k, dataset):
        if k == 2:
            dataset.ImagePositionPatient[0] += 5

    def wider(k, dataset):
        if k == 2:
            dataset.PixelSpacing = [0.9, 0.9]

    for change, words in ((moved, "uneven"), (aside, "uneven"), (wider, "changes its pixel size")):
        folder = tmp_path / change.__name__
        paths = write_series(folder, HU, change=change)
        with pytest.raises(InputError, match=f"{words}.*{paths[2].name}"):
            read_series(folder)


def test_copies_leave_and_two_phases_are_refused(tmp_path: Path, write_series) -> None:
    paths = write_series(tmp_path, HU)
    shutil.copy(paths[2], tmp_path / "copy")
    volume = read_series(tmp_path)
    np.testing.assert_array_equal(volume.voxels, HU)
    assert "1 copies" in volume.notes[0]
    other = pydicom.dcmread(paths[2])
    other.PixelData = other.PixelData[::-1]
    other.save_as(tmp_path / "copy")
    with pytest.raises(InputError, match=f"two different images.*(copy.*{paths[2].name})"):
        read_series(tmp_path)


def test_mixed_series_are_told_apart_and_one_can_be_chosen(tmp_path: Path, write_series) -> None:
    write_series(tmp_path / "a", HU)
    write_series(tmp_path / "b", HU[:3] + 1, change=lambda k, d: setattr(d, "SeriesNumber", 9))
    with pytest.raises(InputError, match=r"2 series \(5 slices, series 3; 3 slices, series 9\)"):
        read_series(tmp_path)
    np.testing.assert_array_equal(read_series(tmp_path, "9").voxels, HU[:3] + 1)
    uid = str(read_series(tmp_path / "a").headers[0].SeriesInstanceUID)
    np.testing.assert_array_equal(read_series(tmp_path, uid).voxels, HU)
    with pytest.raises(InputError, match="no series 7"):
        read_series(tmp_path, "7")


def test_a_scout_of_the_same_uid_is_a_series_of_its_own(tmp_path: Path, write_series) -> None:
    def scout(k, dataset):
        if k == 4:
            dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    write_series(tmp_path, HU, change=scout)
    with pytest.raises(InputError, match="4 slices.*1 slices"):
        read_series(tmp_path)


def test_gantry_tilt_is_named_and_kept(tmp_path: Path, write_series) -> None:
    angle = np.radians(15)
    step = (0, 2.5 * np.tan(angle), 2.5)
    write_series(tmp_path, HU, step=step)
    volume = read_series(tmp_path)
    assert "gantry tilt of 15.0 degrees" in volume.notes[0]
    np.testing.assert_allclose(volume.affine[:3, 0], step, atol=1e-6)
    assert volume.voxel_ml == pytest.approx(2.5 * 0.8 * 0.7 / 1000)


def test_what_is_no_slice_is_left_out_with_a_note(tmp_path: Path, write_series) -> None:
    paths = write_series(tmp_path, HU)
    (tmp_path / "notes.txt").write_text("no DICOM")
    colour = pydicom.dcmread(paths[0])
    colour.SamplesPerPixel = 3
    colour.save_as(tmp_path / "capture")
    notes = " ".join(read_series(tmp_path).notes)
    assert "in colour (secondary captures): capture" in notes and "notes.txt" in notes
    for path in paths:
        path.unlink()
    with pytest.raises(InputError, match=r"no DICOM slices.*secondary captures"):
        read_series(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("RescaleSlope", None, "no rescale slope"),
        ("PixelSpacing", [0, 0], "pixels of no size"),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0], "right angles"),
        ("ImagePositionPatient", [1, 0], "ImagePositionPatient"),
        ("Rows", 60_000, "million"),
    ],
)
def test_unusable_headers(tmp_path: Path, write_series, name, value, words) -> None:
    def change(k, dataset):
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, [float(v) for v in value] if isinstance(value, list) else value)
        if name == "Rows":
            dataset.Columns = value

    write_series(tmp_path, HU, change=change)
    with pytest.raises(InputError, match=words):
        read_series(tmp_path)


def test_a_truncated_file_is_named(tmp_path: Path, write_series) -> None:
    paths = write_series(tmp_path, HU)
    paths[1].write_bytes(paths[1].read_bytes()[:-20])
    with pytest.raises(InputError, match=paths[1].name):
        read_series(tmp_path)


def test_one_slice_is_an_image(tmp_path: Path, write_series) -> None:
    write_series(tmp_path, HU[:1])
    with pytest.raises(InputError, match="single slice"):
        read_series(tmp_path)


def test_masks_are_laid_on_the_slices_they_belong_to(tmp_path: Path, write_series) -> None:
    write_series(tmp_path / "ct", HU)
    marks = np.zeros((3, 6, 8), np.int16)
    marks[1, 2:4, 3] = 255
    write_series(tmp_path / "mask", marks, origin=(-100.0, -80.0, 32.5), rescale=lambda k: (1, 0))
    volume = read_series(tmp_path / "ct")
    found = read_marks(tmp_path, members_of(tmp_path / "mask"), volume)
    assert np.argwhere(found).tolist() == [[2, 2, 3], [2, 3, 3]]
    write_series(tmp_path / "off", marks, origin=(-100.0, -80.0, 33.5), rescale=lambda k: (1, 0))
    with pytest.raises(InputError, match="beside every slice"):
        read_marks(tmp_path, members_of(tmp_path / "off"), volume)


def test_a_real_patient_from_the_zips_it_is_distributed_in(shared_data: Path) -> None:
    folder = shared_data / "dicom" / "3Dircadb1" / "3Dircadb1.17"
    scan = [m for m in members_of(folder) if "PATIENT_DICOM" in m.folders]
    members = [m for m in scan if int(m.name.rpartition("_")[2]) < 24]
    volume = read_series(folder, members=members)
    # by hand: the files' own InstanceNumber - 1 times 1.6 mm is their height
    numbers = [int(header.InstanceNumber) for header in volume.headers]
    assert numbers == sorted(numbers) and list(volume.names) != sorted(volume.names)
    with zipfile.ZipFile(folder / "PATIENT_DICOM.zip") as archive:
        name = volume.names[7]
        raw = pydicom.dcmread(io.BytesIO(archive.read(name)))
    np.testing.assert_array_equal(volume.voxels[7], raw.pixel_array)


@pytest.mark.parametrize(
    ("stored", "kind", "slope", "intercept", "hounsfield"),
    [
        (0, "uint16", 1, -1024, -1024),
        (1024, "uint16", 1, -1024, 0),
        (4095, "uint16", 1, -1024, 3071),
        (1064, "uint16", 1, -1024, 40),
        (24, "uint16", 1, -1024, -1000),
        (0, "uint16", 1, -1000, -1000),
        (2000, "uint16", 1, -1000, 1000),
        (100, "uint16", 2, -1024, -824),
        (1500, "uint16", 2, -1024, 1976),
        (3, "uint16", 4, -8192, -8180),
        (1001, "uint16", 0.5, -1024, -523.5),
        (2049, "uint16", 0.25, -512, 0.25),
        (-1000, "int16", 1, 0, -1000),
        (60, "int16", 1, 0, 60),
        (-32768, "int16", 1, 0, -32768),
        (32767, "int16", 1, 0, 32767),
        (-100, "int16", 1, -24, -124),
        (-7, "int16", 3, 10, -11),
        (50, "int16", -1, 0, -50),
        (1200, "int16", 0.1, -100, 20),
    ],
)
def test_hounsfield_units_by_hand(
    tmp_path: Path, write_series, stored, kind, slope, intercept, hounsfield
) -> None:
    """Slope x stored + intercept, worked by hand; the pixels are written as they are stored."""
    pixels = np.full((4, 5), stored, kind)

    def change(k: int, dataset) -> None:
        dataset.BitsStored, dataset.HighBit = 16, 15
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
        dataset.PixelData = pixels.tobytes()

    write_series(tmp_path / "ct", np.zeros((3, 4, 5), np.int16), change=change, stored=kind)
    voxels = read_series(tmp_path / "ct").voxels
    np.testing.assert_allclose(voxels, np.full((3, 4, 5), hounsfield), rtol=0, atol=2e-6)
    if hounsfield == int(hounsfield):
        assert (np.rint(voxels) == hounsfield).all()
