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
from samling.recipes.predict_volume import VolumeOptions, is_volume

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
