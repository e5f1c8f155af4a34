"""DICOM: made files with known pixels, pydicom's own files, and files that lie."""

import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage, generate_uid

from samling.data.readers import read_any
from samling.data.readers.dicom import read_dicom, read_frames
from samling.errors import InputError

PIXELS = np.arange(60, dtype=np.uint8).reshape(6, 10) * 4


def write(path: Path, pixels: np.ndarray = PIXELS, **fields: Any) -> Path:
    """A small ultrasound file; `fields` replace its elements, None removes one."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = UltrasoundImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    bits = pixels.dtype.itemsize * 8
    values = {
        "Modality": "US", "Rows": pixels.shape[-2], "Columns": pixels.shape[-1],
        "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": bits,
        "BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PixelData": pixels.tobytes(), **fields,
    }  # fmt: skip
    for name, value in values.items():
        if value is not None:
            setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def region(delta_x: float, delta_y: float, units: int = 3, width: int = 9) -> Dataset:
    item = Dataset()
    item.RegionLocationMinX0, item.RegionLocationMinY0 = 0, 0
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = width, 5
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = units
    item.PhysicalDeltaX, item.PhysicalDeltaY = delta_x, delta_y
    return item


def test_grey_pixels_and_modality(tmp_path: Path) -> None:
    plane = read_any(write(tmp_path / "a.bin"))
    np.testing.assert_array_equal(plane.pixels, PIXELS)
    assert (plane.modality, plane.frames, plane.spacing_mm) == ("ultrasound", 1, None)


def test_monochrome1_is_inverted_within_its_bits(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_dicom(path).pixels, 255 - PIXELS)
    twelve = write(
        tmp_path / "b.dcm", PIXELS.astype(np.uint16), PhotometricInterpretation="MONOCHROME1",
        BitsStored=12, HighBit=11,
    )  # fmt: skip
    np.testing.assert_array_equal(read_dicom(twelve).pixels, 4095 - PIXELS.astype(int))


def test_ct_becomes_hounsfield_units_plus_1024(tmp_path: Path) -> None:
    stored = PIXELS.astype(np.int16)
    path = write(tmp_path / "a.dcm", stored, Modality="CT", RescaleSlope=2, RescaleIntercept=-1000)
    plane = read_dicom(path)
    np.testing.assert_array_equal(plane.pixels, stored.astype(int) * 2 - 1000 + 1024)
    assert plane.modality == "ct" and plane.pixels.dtype == np.uint16
    np.testing.assert_array_equal(plane.values, stored.astype(int) * 2 - 1000)


def test_a_narrow_ct_does_not_wrap_around(tmp_path: Path) -> None:
    ct = read_dicom(write(tmp_path / "a.dcm", Modality="CT"))
    np.testing.assert_array_equal(ct.pixels, PIXELS.astype(int) + 1024)
    dark = write(tmp_path / "b.dcm", Modality="CT", RescaleSlope=1, RescaleIntercept=-1024)
    assert read_dicom(dark).pixels.dtype == np.uint16
    np.testing.assert_array_equal(read_dicom(dark).pixels, PIXELS)
    signed = read_dicom(write(tmp_path / "c.dcm", (PIXELS.astype(int) - 128).astype(np.int8)))
    np.testing.assert_array_equal(signed.pixels, PIXELS)
    assert signed.pixels.dtype == np.uint8


def test_the_patient_is_a_hash_and_no_name(tmp_path: Path) -> None:
    def patient(**fields: Any) -> str | None:
        return read_any(write(tmp_path / "a.dcm", **fields)).patient

    # printf %s "Doe 7" | sha256sum
    assert patient(PatientID="Doe 7", PatientName="Doe") == "6877825072819630"
    assert patient(PatientID="Doe 7 ") == patient(PatientID="Doe 7") != patient(PatientID="Doe 8")
    assert patient() is patient(PatientID="") is patient(PatientID="  ") is None


def test_pixel_spacing_is_row_then_column(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", PixelSpacing=[0.3, 0.2])
    assert read_dicom(path).spacing_mm == (0.3, 0.2)


def test_ultrasound_regions_are_centimetres_per_pixel(tmp_path: Path) -> None:
    one = write(tmp_path / "a.dcm", SequenceOfUltrasoundRegions=[region(0.02, -0.03)])
    assert read_dicom(one).spacing_mm == pytest.approx((0.3, 0.2))
    doppler = [region(0.01, 5.0, units=4, width=9), region(0.02, 0.02, width=3)]
    mixed = write(tmp_path / "b.dcm", SequenceOfUltrasoundRegions=doppler)
    assert read_dicom(mixed).spacing_mm == pytest.approx((0.2, 0.2))
    zero = write(tmp_path / "c.dcm", SequenceOfUltrasoundRegions=[region(0.0, 0.0)])
    assert read_dicom(zero).spacing_mm is None


def test_different_scales_are_remarked(tmp_path: Path) -> None:
    regions = [region(0.01, 0.01, width=2), region(0.04, 0.04, width=9)]
    plane = read_dicom(write(tmp_path / "a.dcm", SequenceOfUltrasoundRegions=regions))
    assert plane.spacing_mm == pytest.approx((0.4, 0.4)) and "scales" in plane.notes[-1]


def test_cine_frames_one_by_one(tmp_path: Path) -> None:
    loop = np.stack([PIXELS, PIXELS + 1, PIXELS + 2])
    path = write(tmp_path / "a.dcm", loop, NumberOfFrames=3)
    assert read_dicom(path).frames == 3
    np.testing.assert_array_equal(read_dicom(path, frame=2).pixels, loop[2])
    np.testing.assert_array_equal([p.pixels for p in read_frames(path)], loop)
    assert len(list(read_frames(path, limit=2))) == 2
    with pytest.raises(InputError, match="no frame 3"):
        read_dicom(path, frame=3)


def test_colour_of_pydicoms_ultrasound_files() -> None:
    rgb = pydicom.dcmread(get_testdata_file("examples_rgb_color.dcm"))
    plane = read_dicom(rgb.filename)
    expected = rgb.pixel_array @ np.array([0.299, 0.587, 0.114])
    assert np.abs(plane.pixels - expected).max() <= 0.5001
    palette = read_dicom(get_testdata_file("examples_palette.dcm"))
    assert palette.pixels.dtype == np.uint8 and palette.pixels.shape == (350, 800)
    assert palette.spacing_mm == pytest.approx((0.26229, 0.26229), abs=1e-4)
    assert read_dicom(get_testdata_file("examples_ybr_color.dcm")).frames == 30


def test_a_report_without_pixels_is_one_error() -> None:
    with pytest.raises(InputError, match="has no pixels"):
        read_any(get_testdata_file("reportsi.dcm"))


LIES: list[dict[str, Any]] = [
    {"Rows": 0}, {"Columns": 0}, {"Rows": 65535, "Columns": 65535}, {"Rows": None},
    {"NumberOfFrames": 10_000_000}, {"NumberOfFrames": -1}, {"NumberOfFrames": 5},
    {"BitsAllocated": 7}, {"BitsAllocated": 64}, {"SamplesPerPixel": 255}, {"PixelData": None},
    {"PixelData": b""}, {"PixelData": b"\0\0"}, {"PhotometricInterpretation": "NONSENSE"},
    {"PhotometricInterpretation": "PALETTE COLOR"}, {"PhotometricInterpretation": None},
]  # fmt: skip


@pytest.mark.parametrize("lie", LIES, ids=str)
def test_headers_that_lie_are_one_error(tmp_path: Path, lie: dict[str, Any]) -> None:
    path = write(tmp_path / "a.dcm", **lie)
    with pytest.raises(InputError) as caught:
        read_any(path)
    assert "a.dcm" in str(caught.value)


def test_mutated_files_never_raise_anything_else(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    path = tmp_path / "m.dcm"
    names = ("CT_small.dcm", "examples_rgb_color.dcm", "MR_small_RLE.dcm", "SC_rgb_jpeg_dcmtk.dcm")
    for name in names:
        original = Path(get_testdata_file(name)).read_bytes()
        for turn in range(40):
            data = bytearray(original)
            for place in generator.integers(128, min(len(data), 3000), size=1 + turn % 8):
                data[place] = generator.integers(256)
            cut = len(data) if turn % 2 else int(generator.integers(132, len(data)))
            path.write_bytes(data[:cut])
            with suppress(InputError):
                assert read_any(path).pixels.ndim == 2


def test_a_deflate_bomb_is_refused_before_it_grows(tmp_path: Path) -> None:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = bytes(1 << 20)
    body = b"".join(deflate.compress(zeros) for _ in range(200)) + deflate.flush()
    syntax = b"1.2.840.10008.1.2.1.99"
    meta = struct.pack("<HH2sH", 2, 0x10, b"UI", len(syntax)) + syntax
    group = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta))
    path = tmp_path / "bomb.dcm"
    path.write_bytes(bytes(128) + b"DICM" + group + meta + body)
    with pytest.raises(InputError, match="inflates"):
        read_any(path)
    harmless = io.BytesIO(Path(get_testdata_file("image_dfl.dcm")).read_bytes())
    (tmp_path / "fine.dcm").write_bytes(harmless.getvalue())
    assert read_any(tmp_path / "fine.dcm").pixels.shape == (512, 512)


def test_hounsfield_units_are_not_inverted(tmp_path: Path) -> None:
    """MONOCHROME1 says how to show the values; what was measured does not change (PS3.3 C.11.1)."""
    stored = PIXELS.astype(np.int16)
    fields = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1000}
    usual = read_dicom(write(tmp_path / "a.dcm", stored, **fields)).pixels
    fields["PhotometricInterpretation"] = "MONOCHROME1"
    np.testing.assert_array_equal(
        read_dicom(write(tmp_path / "b.dcm", stored, **fields)).pixels, usual
    )
