"""DICOM segmentations: written here, read back by highdicom, SimpleITK and pydicom."""

from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.uid import UltrasoundMultiFrameImageStorage

from samling.data.readers.volumes import read_series
from samling.errors import InputError
from samling.inference.dicom_seg import Author, write_seg

AUTHOR = Author("tiny", "0.1", prompted=False)
CLASSES = ("liver", "liver tumour")
ORIENTATIONS = {
    "axial": (1, 0, 0, 0, 1, 0),
    "prone": (-1, 0, 0, 0, -1, 0),
    "coronal": (1, 0, 0, 0, 0, -1),
    "oblique": (0.8, 0.6, 0, -0.48, 0.64, 0.6),
    "to the feet": (0, 1, 0, 1, 0, 0),
}


def labels_like(shape, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, shape).astype(np.uint8)
    labels[0] = 0  # a slice with nothing on it
    return labels


@pytest.mark.parametrize("name", ORIENTATIONS)
@pytest.mark.parametrize("spacing", [(2.5, 0.8, 0.7), (0.6, 0.5, 0.5)])
@pytest.mark.parametrize("tilted", [False, True])
def test_a_series_comes_back_voxel_for_voxel(tmp_path: Path, write_series, name, spacing, tilted):
    """20 scans: five orientations, two spacings, with and without gantry tilt."""
    orientation = ORIENTATIONS[name]
    normal = np.cross(orientation[:3], orientation[3:])
    step = spacing[0] * (normal + 0.2 * np.array(orientation[3:])) if tilted else None
    hu = np.zeros((5, 9, 11), np.int16)
    write_series(tmp_path / "ct", hu, spacing_mm=spacing, orientation=orientation, step=step)
    volume = read_series(tmp_path / "ct")
    labels = labels_like(hu.shape)
    write_seg(tmp_path / "a.dcm", labels, volume.headers, CLASSES, AUTHOR)

    seg = hd.seg.segread(tmp_path / "a.dcm")
    uids = [str(header.SOPInstanceUID) for header in volume.headers]
    back = seg.get_pixels_by_source_instance(
        uids, combine_segments=True, ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )  # fmt: skip
    np.testing.assert_array_equal(back, labels)
    shared = seg.SharedFunctionalGroupsSequence[0]
    measures = shared.PixelMeasuresSequence[0]
    np.testing.assert_allclose(measures.PixelSpacing, spacing[1:], atol=1e-5)
    cosines = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    np.testing.assert_allclose(cosines, orientation, atol=1e-5)
    known = {
        uid: header.ImagePositionPatient for uid, header in zip(uids, volume.headers, strict=True)
    }
    for frame in seg.PerFrameFunctionalGroupsSequence:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(position, known[source], atol=1e-5)


def test_segments_have_standard_codes_and_refer_to_the_series(tmp_path: Path, write_series) -> None:
    write_series(tmp_path / "ct", np.zeros((3, 8, 9), np.int16))
    volume = read_series(tmp_path / "ct")
    write_seg(tmp_path / "a.dcm", labels_like((3, 8, 9)), volume.headers, CLASSES, AUTHOR)
    seg, source = pydicom.dcmread(tmp_path / "a.dcm"), volume.headers[0]
    liver, tumour = seg.SegmentSequence
    assert liver.SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"
    assert tumour.SegmentedPropertyTypeCodeSequence[0].CodeValue == "108369006"
    assert tumour.AnatomicRegionSequence[0].CodeMeaning == "Liver"
    assert {item.SegmentAlgorithmType for item in seg.SegmentSequence} == {"AUTOMATIC"}
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    assert seg.SeriesInstanceUID != source.SeriesInstanceUID
    for name in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert seg.get(name) == source.get(name)


def test_a_source_without_frame_of_reference_gets_one_and_without_uids_is_refused(
    tmp_path: Path, write_series
) -> None:
    def change(k, dataset):
        for name in ("FrameOfReferenceUID", "StudyTime", "ReferringPhysicianName"):
            delattr(dataset, name)

    write_series(tmp_path / "ct", np.zeros((3, 8, 9), np.int16), change=change)
    headers = read_series(tmp_path / "ct").headers
    uids = []
    for name in ("a.dcm", "b.dcm"):
        write_seg(tmp_path / name, labels_like((3, 8, 9)), headers, CLASSES, AUTHOR)
        uids.append(pydicom.dcmread(tmp_path / name).FrameOfReferenceUID)
    assert uids[0] == uids[1] and "FrameOfReferenceUID" not in headers[0]
    del headers[0].StudyInstanceUID
    with pytest.raises(InputError, match="no StudyInstanceUID"):
        write_seg(tmp_path / "c.dcm", labels_like((3, 8, 9)), headers, CLASSES, AUTHOR)
    assert not (tmp_path / "c.dcm").exists()


def test_nothing_found_is_a_segmentation_too(tmp_path: Path, write_series) -> None:
    write_series(tmp_path / "ct", np.zeros((3, 8, 9), np.int16))
    empty = np.zeros((3, 8, 9), np.uint8)
    write_seg(tmp_path / "a.dcm", empty, read_series(tmp_path / "ct").headers, CLASSES, AUTHOR)
    assert not sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.dcm"))).any()


def test_single_frame_ultrasound_keeps_its_scale(tmp_path: Path, shared_data: Path) -> None:
    path = shared_data / "dicom" / "us" / "examples_palette.dcm"
    header = pydicom.dcmread(path, stop_before_pixels=True)
    labels = np.zeros((1, header.Rows, header.Columns), np.uint8)
    labels[0, 50:90, 30:60] = 1
    write_seg(tmp_path / "a.dcm", labels, [header], ("lesion",), AUTHOR, (0.2, 0.3))
    seg = hd.seg.segread(tmp_path / "a.dcm")
    back = seg.get_pixels_by_source_instance([header.SOPInstanceUID], ignore_spatial_locations=True)
    np.testing.assert_array_equal(back[0, ..., 0], labels[0])
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert list(measures.PixelSpacing) == [0.2, 0.3]


def test_every_frame_of_a_cine_is_referred_to(tmp_path: Path, shared_data: Path) -> None:
    path = shared_data / "dicom" / "us" / "examples_ybr_color.dcm"
    header = pydicom.dcmread(path, stop_before_pixels=True)
    labels = labels_like((int(header.NumberOfFrames), header.Rows, header.Columns))
    write_seg(tmp_path / "a.dcm", labels, [header], ("cyst", "nodule"), AUTHOR, (0.1, 0.1))
    seg = hd.seg.segread(tmp_path / "a.dcm")
    back = seg.get_pixels_by_source_frame(
        header.SOPInstanceUID, list(range(1, len(labels) + 1)), combine_segments=True,
        ignore_spatial_locations=True, assert_missing_frames_are_empty=True,
    )  # fmt: skip
    np.testing.assert_array_equal(back, labels)
    assert pydicom.dcmread(tmp_path / "a.dcm").pixel_array.sum() == (labels > 0).sum()
    referred = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    assert referred.ReferencedSOPClassUID == header.SOPClassUID == UltrasoundMultiFrameImageStorage
    frame = (
        seg.PerFrameFunctionalGroupsSequence[3].DerivationImageSequence[0].SourceImageSequence[0]
    )
    assert frame.ReferencedSOPClassUID == UltrasoundMultiFrameImageStorage
    assert seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing == [0.1, 0.1]


def test_the_structure_is_that_of_another_programs_segmentation(
    tmp_path: Path, shared_data: Path
) -> None:
    """Every element at the top of dcmqi's file is in ours, but for what only it has reason to say."""
    folder = shared_data / "dicom" / "seg_dcmqi_ct3slice"
    theirs = pydicom.dcmread(folder / "liver.dcm")
    volume = read_series(folder)
    labels = hd.seg.segread(folder / "liver.dcm").get_pixels_by_source_instance(
        [header.SOPInstanceUID for header in volume.headers],
        combine_segments=True, ignore_spatial_locations=True,
    )  # fmt: skip
    write_seg(tmp_path / "a.dcm", labels, volume.headers, ("liver",), AUTHOR)
    ours = pydicom.dcmread(tmp_path / "a.dcm")
    trial = {
        "ClinicalTrialTimePointID",
        "ClinicalTrialCoordinatingCenterName",
        "ClinicalTrialSeriesID",
    }
    assert set(theirs.dir()) - set(ours.dir()) <= trial
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.dcm"))).astype(bool).sum(),
        sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "liver.dcm"))).astype(bool).sum(),
    )
