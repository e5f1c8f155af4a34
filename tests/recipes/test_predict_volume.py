"""Volumes from the command's point of view: a series goes in, files a hospital can read come out."""

import csv
import shutil
from pathlib import Path

import cv2
import highdicom as hd
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813

from samling.errors import InputError
from samling.inference.backend import Encoding
from samling.inference.card import Card
from samling.inference.clean_volume import CleanUp
from samling.inference.segmenter import Segmenter
from samling.prompts.prompt import Token
from samling.recipes import predict as module
from samling.recipes.predict import PredictOptions, predict
from samling.recipes.predict_volume import VolumeOptions, _doubts_of_classes, is_volume

SIDE = 64


class Threshold:
    """Finds what is brighter than a half, inside the box where one is given."""

    def encode(self, plane):
        return Encoding(plane[None, None], 3.0)

    def decode(self, encoding, coords, labels, masks=None):
        y, x = np.mgrid[:SIDE, :SIDE]
        low = []
        for c, k in zip(coords, labels, strict=True):
            inside = np.ones((SIDE, SIDE), bool)
            if Token.TOP_LEFT in k:
                (x0, y0), (x1, y1) = c[-2:]
                inside = (x >= x0 - 0.5) & (x <= x1 + 0.5) & (y >= y0 - 0.5) & (y <= y1 + 0.5)
            low.append(np.where(inside & (encoding.embedding[0, 0] > 0.5), 8.0, -8.0))
        return np.stack(low).astype(np.float32), np.full(len(low), 0.9, np.float32)


@pytest.fixture(autouse=True)
def threshold(monkeypatch):
    card = Card(
        name="threshold", base="none", base_sha256="0" * 64, input_size=SIDE,
        embedding_size=SIDE // 4, prompts=("box", "automatic"), classes=("liver", "tumour"),
        window_hu=(100.0, 100.0), minimum_area=0.0,
    )  # fmt: skip
    monkeypatch.setattr(module, "load", lambda model, runtime=None: Segmenter(Threshold(), card))


def options(*formats, window=None, clean="", **fields) -> PredictOptions:
    return PredictOptions(window, VolumeOptions(formats, clean=CleanUp.parse(clean), **fields))


def table(out: Path) -> list[dict[str, str]]:
    with (out / "volumes.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_series_becomes_nifti_dicom_seg_picture_and_table(tmp_path, write_series, ct_phantom):
    paths = write_series(tmp_path / "ct", ct_phantom)
    summary = predict("any", [tmp_path / "ct"], tmp_path / "out")
    liver = ct_phantom == 120  # the only tissue above the window's middle
    assert summary.objects >= 1 and not summary.failed
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in paths])
    source, image = reader.Execute(), sitk.ReadImage(str(tmp_path / "out" / "ct.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), liver)
    for get in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(image, get)(), getattr(source, get)(), atol=1e-5)
    seg = hd.seg.segread(tmp_path / "out" / "ct_seg.dcm")
    uids = [str(pydicom.dcmread(path).SOPInstanceUID) for path in paths]
    back = seg.get_pixels_by_source_instance(
        uids, combine_segments=True, ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )  # fmt: skip
    np.testing.assert_array_equal(back, liver)
    assert cv2.imread(str(tmp_path / "out" / "ct_overlay.png")).shape[1] > 4 * 200
    rows = table(tmp_path / "out")
    assert [row["class"] for row in rows if row["part"] == "all"] == ["liver", "tumour"]
    expected = liver.sum() * 2.5 * 0.8 * 0.7 / 1000
    assert float(rows[0]["volume_ml"]) == pytest.approx(expected, abs=1e-3)
    assert rows[0]["nifti"] == "ct.nii.gz" and rows[0]["dicom_seg"] == "ct_seg.dcm"


def test_one_box_in_the_middle_follows_the_organ(tmp_path, write_series, ct_phantom):
    write_series(tmp_path / "ct", ct_phantom)
    box = [(9, 11, 44, 50)]
    predict("any", [tmp_path / "ct"], tmp_path / "out", box, options=options("nifti", start=12))
    found = np.asarray(nibabel.load(tmp_path / "out" / "ct.nii.gz").dataobj).transpose(2, 1, 0)
    liver = ct_phantom == 120
    assert 2 * (found & liver).sum() / (found.sum() + liver.sum()) > 0.97
    assert not list((tmp_path / "out").glob("*.dcm"))


def test_objects_on_their_own_slices_with_classes(tmp_path, write_series, ct_phantom):
    write_series(tmp_path / "ct", np.where(ct_phantom == 40, 140, ct_phantom))
    entries = (
        '{"ct": [{"box": [9, 11, 44, 50], "slice": 12},'
        ' {"box": [14, 20, 27, 33], "slice": 10, "class": "tumour"}]}'
    )
    (tmp_path / "p.json").write_text(entries)
    predict(
        "any", [tmp_path / "ct"], tmp_path / "out", prompts_file=tmp_path / "p.json",
        options=options("nifti"),
    )  # fmt: skip
    found = np.asarray(nibabel.load(tmp_path / "out" / "ct.nii.gz").dataobj)
    assert set(np.unique(found)) == {0, 1, 2}
    (tmp_path / "p.json").write_text(entries.replace("10,", "99,"))
    with pytest.raises(InputError, match="99 is not there"):
        predict("any", [tmp_path / "ct"], tmp_path / "o", prompts_file=tmp_path / "p.json")
    assert not list((tmp_path / "o").glob("*"))


def test_clean_up_and_window_are_what_was_asked(tmp_path, write_series, ct_phantom):
    spots = ct_phantom.copy()
    spots[2, 50:52, 30:32] = 120
    write_series(tmp_path / "ct", spots)
    predict("any", [tmp_path / "ct"], tmp_path / "a", options=options("nifti", clean="largest"))
    kept = np.asarray(nibabel.load(tmp_path / "a" / "ct.nii.gz").dataobj)
    assert kept.sum() == (ct_phantom == 120).sum()
    # in a window around 0 HU the whole body is bright
    predict("any", [tmp_path / "ct"], tmp_path / "b", options=options("nifti", window="-100,100"))
    body = np.asarray(nibabel.load(tmp_path / "b" / "ct.nii.gz").dataobj)
    assert body.sum() == (spots > -1000).sum()


def test_doubtful_results_say_so(tmp_path, write_series, ct_phantom, monkeypatch):
    write_series(tmp_path / "ct", ct_phantom)
    sure = predict("any", [tmp_path / "ct"], tmp_path / "a", options=options("nifti"))
    assert not any("reaches the end" in note or "--window" in note for note in sure.notes)
    reaching = options("nifti", window="-100,100")  # the body is on the first slice too
    noted = predict("any", [tmp_path / "ct"], tmp_path / "b", options=reaching).notes
    assert any("reaches the end of the scan" in note for note in noted)
    card = module.load("any").card.model_copy(update={"window_hu": None})
    monkeypatch.setattr(module, "load", lambda model, runtime=None: Segmenter(Threshold(), card))
    noted = predict("any", [tmp_path / "ct"], tmp_path / "c", options=options("nifti")).notes
    assert any("--window abdomen" in note for note in noted)


def test_volume_files_go_back_to_their_own_grid(tmp_path, ct_phantom):
    affine = np.array([[0, 0, 2.0, 5], [-0.7, 0, 0, 6], [0, -0.8, 0, 7], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(ct_phantom.transpose(2, 1, 0), affine), tmp_path / "a.nii.gz")
    predict("any", [tmp_path / "a.nii.gz"], tmp_path / "out")
    image = nibabel.load(tmp_path / "out" / "a.nii.gz")
    np.testing.assert_allclose(image.affine, affine, atol=1e-6)
    np.testing.assert_array_equal(image.dataobj, (ct_phantom == 120).transpose(2, 1, 0))
    with pytest.raises(InputError, match="no DICOM series"):
        predict("any", [tmp_path / "a.nii.gz"], tmp_path / "o", options=options("dicom-seg"))


def test_a_zip_and_a_folder_beside_an_unusable_one(tmp_path, write_series, ct_phantom):
    write_series(tmp_path / "ct", ct_phantom)
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "ct")
    gap = write_series(tmp_path / "gap", ct_phantom)
    gap[5].unlink()
    inputs = [tmp_path / "ct", tmp_path / "packed.zip", tmp_path / "gap"]
    summary = predict("any", inputs, tmp_path / "out", options=options("nifti"))
    assert len(summary.done) == 2 and "lacks 1 slices" in summary.failed[0][1]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "ct.nii.gz", "packed.nii.gz", "volumes.csv",
    ]  # fmt: skip
    with pytest.raises(InputError, match="lacks 1 slices"):
        predict("any", [tmp_path / "gap"], tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_what_counts_as_a_volume(tmp_path, write_series, ct_phantom, shared_data):
    write_series(tmp_path / "two", ct_phantom[:2])
    write_series(tmp_path / "one", ct_phantom[:1])
    assert is_volume(tmp_path / "two") and not is_volume(tmp_path / "one")
    assert is_volume(tmp_path / "x.nii.gz") and not is_volume(tmp_path / "x.png")
    assert not is_volume(shared_data / "dicom" / "us")


def test_ultrasound_gets_a_segmentation_too(tmp_path, shared_data):
    folder = shared_data / "dicom" / "us"
    files = [folder / "examples_palette.dcm", folder / "examples_ybr_color.dcm"]
    with pytest.raises(InputError, match="no Hounsfield units"):
        predict("any", files, tmp_path / "none")
    card = module.load("any").card.model_copy(update={"window_hu": None})
    module.load = lambda model, runtime=None: Segmenter(Threshold(), card)
    predict("any", files, tmp_path / "out", [(20, 20, 200, 200)], options=options("dicom-seg"))
    single = pydicom.dcmread(tmp_path / "out" / "examples_palette_seg.dcm")
    mask = cv2.imread(str(tmp_path / "out" / "examples_palette.png"), cv2.IMREAD_UNCHANGED)
    assert single.pixel_array.reshape(-1).sum() == (mask > 0).sum() > 0
    region = pydicom.dcmread(files[0]).SequenceOfUltrasoundRegions[0]
    spacing = single.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    assert float(spacing[0]) == pytest.approx(10 * abs(region.PhysicalDeltaY))
    cine = pydicom.dcmread(tmp_path / "out" / "examples_ybr_color_seg.dcm")
    masks = [
        cv2.imread(str(tmp_path / "out" / f"examples_ybr_color_f{k:03d}.png"), cv2.IMREAD_UNCHANGED)
        for k in range(30)
    ]
    assert cine.pixel_array.sum() == sum((mask > 0).sum() for mask in masks) > 0


def test_wrong_options():
    for make in (
        lambda: VolumeOptions(("gif",)),
        lambda: options(window="0,0").windowed(module.load("any")),
    ):
        with pytest.raises(InputError):
            make()


def turned(seed: int) -> dict:
    """A series' geometry: straight, mirrored, oblique or gapped, always anisotropic."""
    rng = np.random.default_rng(seed)
    matrix, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    if seed % 4 == 0:
        matrix = np.eye(3)[rng.permutation(3)] * rng.choice((-1.0, 1.0), 3)
    row, column = np.round(matrix[0], 6), matrix[1]
    column = column - row * (row @ column) / (row @ row)  # exactly perpendicular as written
    normal = np.cross(row, column)
    spacing = np.round(rng.uniform(0.4, 4, 3), 3)
    gap = 1.7 if seed % 3 == 0 else 1.0  # between the centres, in slice thicknesses
    sign = -1 if seed % 2 else 1  # files written against the normal
    return {
        "spacing_mm": tuple(map(float, spacing)),
        "origin": tuple(map(float, np.round(rng.uniform(-200, 200, 3), 2))),
        "orientation": (*map(float, row), *map(float, column)),
        "step": tuple(map(float, sign * gap * spacing[0] * normal)),
    }


@pytest.mark.parametrize("seed", range(20))
def test_twenty_volumes_come_back_voxel_by_voxel(tmp_path, write_series, ct_phantom, seed):
    hu = ct_phantom[:, 2:60, :]
    paths = write_series(tmp_path / "ct", hu, **turned(seed))
    predict("any", [tmp_path / "ct"], tmp_path / "out", options=options("nifti", "dicom-seg"))
    headers = {path: pydicom.dcmread(path) for path in paths}

    def height(path):
        cosines = np.array(headers[path].ImageOrientationPatient, dtype=float)
        position = np.array(headers[path].ImagePositionPatient, dtype=float)
        return position @ np.cross(cosines[:3], cosines[3:])

    ordered = sorted(paths, key=height)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in ordered])
    source, image = reader.Execute(), sitk.ReadImage(str(tmp_path / "out" / "ct.nii.gz"))
    expected = sitk.GetArrayFromImage(source) == 120
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image) > 0, expected)
    np.testing.assert_allclose(_affine(image), _affine(source), rtol=0, atol=1e-5)
    seg = hd.seg.segread(tmp_path / "out" / "ct_seg.dcm")
    back = seg.get_pixels_by_source_instance(
        [str(headers[path].SOPInstanceUID) for path in ordered], combine_segments=True,
        ignore_spatial_locations=True, assert_missing_frames_are_empty=True,
    )  # fmt: skip
    np.testing.assert_array_equal(back == 1, expected)
    known = np.array([header.ImagePositionPatient for header in headers.values()], dtype=float)
    for frame in seg.PerFrameFunctionalGroupsSequence:
        place = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        assert np.abs(known - place).max(axis=1).min() < 1e-5


def _affine(image) -> np.ndarray:
    directions = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    return np.column_stack([directions, image.GetOrigin()])


def _secondary(k, dataset):
    dataset.Modality, dataset.PhotometricInterpretation = "XC", "RGB"
    dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelData = 7, bytes(3 * dataset.Rows * dataset.Columns)


def _without(*names):
    def change(k, dataset):
        for name in names:
            delattr(dataset, name)

    return change


def _spoil_missing(folder, write, hu):
    write(folder, hu)[11].unlink()


def _spoil_two_series(folder, write, hu):
    write(folder / "b", hu)
    for path in write(folder, hu):
        (folder / "b" / path.name).rename(folder / f"other_{path.name}")


def _spoil_truncated(folder, write, hu):
    path = write(folder, hu)[5]
    path.write_bytes(path.read_bytes()[:-3000])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_spoil_missing, "lacks 1 slices .* between image_98 and image_84"),
        (_spoil_two_series, "2 series"),
        (lambda folder, write, hu: write(folder, hu, change=_secondary), "colour|grey|RGB"),
        (
            lambda folder, write, hu: write(
                folder, hu, change=_without("RescaleSlope", "RescaleIntercept")
            ),
            "no rescale slope",
        ),
        (_spoil_truncated, "image_"),
    ],
)
def test_a_bad_series_is_one_message_and_leaves_nothing(
    tmp_path, write_series, ct_phantom, spoil, words
):
    spoil(tmp_path / "ct", write_series, ct_phantom)
    with pytest.raises(InputError, match=words):
        predict("any", [tmp_path / "ct"], tmp_path / "out")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_bad_window_and_a_bad_file_leave_nothing(tmp_path, write_series, ct_phantom):
    write_series(tmp_path / "ct", ct_phantom)
    with pytest.raises(InputError, match="width 0"):
        predict("any", [tmp_path / "ct"], tmp_path / "out", options=options(window="40,0"))
    four = nibabel.Nifti1Image(np.zeros((4, 5, 6, 3), np.int16), np.eye(4))
    nibabel.save(four, tmp_path / "four.nii.gz")
    with pytest.raises(InputError, match="4 dimensions"):
        predict("any", [tmp_path / "four.nii.gz"], tmp_path / "out")
    whole = tmp_path / "whole.nii"
    nibabel.save(nibabel.Nifti1Image(ct_phantom, np.eye(4)), whole)
    (tmp_path / "half.nii").write_bytes(whole.read_bytes()[:9000])
    with pytest.raises(InputError, match=r"half\.nii"):
        predict("any", [tmp_path / "half.nii"], tmp_path / "out")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_some_slices_only(tmp_path, write_series, ct_phantom):
    write_series(tmp_path / "ct", ct_phantom)
    predict("any", [tmp_path / "ct"], tmp_path / "out", options=options("nifti", span=(8, 10)))
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "ct.nii.gz")))
    expected = ct_phantom == 120
    expected[[*range(8), *range(11, 24)]] = False
    np.testing.assert_array_equal(found, expected)
    box = [10, 12, 42, 48]
    predict("any", [tmp_path / "ct"], tmp_path / "box", [box],
            options=options("nifti", span=(8, 10), start=9))  # fmt: skip
    carried = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "box" / "ct.nii.gz")))
    assert np.flatnonzero(carried.any(axis=(1, 2))).tolist() == [8, 9, 10]
    for span, start in (((20, 30), None), ((5, 3), None), ((8, 10), 12)):
        with pytest.raises(InputError, match="not there"):
            predict("any", [tmp_path / "ct"], tmp_path / "no", [box],
                    options=options("nifti", span=span, start=start))  # fmt: skip


def test_an_ensemble_writes_where_it_is_unsure(tmp_path, write_series, ct_phantom):
    write_series(tmp_path / "ct", ct_phantom)
    asked = PredictOptions(None, VolumeOptions(("nifti",), flips=True), ("another",))
    predict("any", [tmp_path / "ct"], tmp_path / "out", options=asked)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"ct.nii.gz", "ct_uncertainty.nii.gz", "volumes.csv"}
    unsure = sitk.ReadImage(str(tmp_path / "out" / "ct_uncertainty.nii.gz"))
    percent = sitk.GetArrayFromImage(unsure)
    assert percent.shape == ct_phantom.shape and percent.max() <= 100
    assert sitk.ReadImage(str(tmp_path / "out" / "ct.nii.gz")).GetOrigin() == unsure.GetOrigin()
    with pytest.raises(InputError, match="joins models in automatic mode only"):
        predict("any", [tmp_path / "ct"], tmp_path / "no", [[10, 12, 42, 48]], options=asked)


def test_a_tumour_larger_than_half_of_its_organ_is_doubted():
    labels = np.zeros((4, 10, 10), np.uint8)
    labels[1:3, 2:8, 2:8] = 1
    labels[1, 3:5, 3:5] = 2
    assert _doubts_of_classes(labels, ("liver", "tumour")) == []
    labels[1:3, 2:8, 2:7] = 2
    [said] = _doubts_of_classes(labels, ("liver", "tumour"))
    assert said.startswith("tumour fills 83 % of liver")
