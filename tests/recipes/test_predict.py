import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from samling.data.readers.plane import ImagePlane
from samling.errors import InputError
from samling.inference.backend import Encoding
from samling.inference.card import Card
from samling.inference.expectation import Calibration, Curve
from samling.inference.segmenter import Segmenter
from samling.prompts.prompt import Token
from samling.recipes import predict as module
from samling.recipes.predict import predict

SIDE = 64


class Filler:
    """Fills boxes; automatically it finds what is brighter than a half."""

    def encode(self, plane):
        return Encoding(plane[None, None], 3.0 if plane.max() > 0.5 else -3.0)

    def decode(self, encoding, coords, labels, masks=None):
        low = [
            self._fill(encoding.embedding[0, 0], c, k) for c, k in zip(coords, labels, strict=True)
        ]
        return np.stack(low).astype(np.float32), np.full(len(low), 0.75, dtype=np.float32)

    def _fill(self, plane, coords, kinds):
        if kinds[0] == Token.AUTOMATIC:
            return (plane - 0.5) * 20
        y, x = np.mgrid[:SIDE, :SIDE]
        (x0, y0), (x1, y1) = (
            coords[-2:] if Token.TOP_LEFT in kinds else (coords[0] - 4, coords[0] + 4)
        )
        return np.where((x >= x0) & (x <= x1) & (y >= y0) & (y <= y1), 8.0, -8.0)


@pytest.fixture
def card():
    return Card(
        name="filler",
        base="none",
        base_sha256="0" * 64,
        input_size=SIDE,
        embedding_size=SIDE // 4,
        prompts=("box", "points", "automatic"),
        classes=("lesion", "cyst"),
    )


@pytest.fixture
def use(monkeypatch):
    def use_card(card):
        monkeypatch.setattr(module, "load", lambda model, runtime=None: Segmenter(Filler(), card))

    return use_card


@pytest.fixture(autouse=True)
def filler(use, card):
    use(card)


@pytest.fixture
def scans(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    for k, name in enumerate(("b.png", "a.png", "c.jpg")):
        image = np.zeros((60, 80), dtype=np.uint8)
        image[10:30, 10 + 10 * k : 40 + 10 * k] = 255
        cv2.imwrite(str(folder / name), image)
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_text("no image")
    (folder / "inside").mkdir()
    return folder


def table(out):
    with (out / "results.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def mask_of(out, name):
    return cv2.imread(str(out / name), cv2.IMREAD_UNCHANGED)


def test_a_folder_is_predicted_in_order_with_mask_overlay_and_row(scans, tmp_path):
    out = tmp_path / "out"
    summary = predict("filler", [scans], out)
    assert [path.name for path in summary.done] == ["a.png", "b.png", "c.jpg"]
    assert not summary.failed
    assert "1 files are no images" in str(summary)
    assert [row["file"] for row in table(out)] == ["a.png", "b.png", "c.jpg"]
    assert {path.name for path in out.iterdir()} == {
        *(f"{stem}{kind}.png" for stem in "abc" for kind in ("", "_overlay")),
        "results.csv",
    }
    mask = mask_of(out, "b.png")
    truth = cv2.imread(str(scans / "b.png"), 0) > 127
    assert mask.shape == (60, 80)
    assert ((mask > 0) & truth).sum() / ((mask > 0) | truth).sum() > 0.9
    assert table(out)[0]["area_mm2"] == ""  # a PNG has no scale


def test_boxes_are_objects_and_points_are_one(scans, tmp_path):
    boxes = [(5.0, 5.0, 20.0, 20.0), (40.0, 30.0, 70.0, 55.0)]
    summary = predict("filler", [scans / "a.png"], tmp_path / "out", boxes, [(60, 10), (62, 12, 1)])
    rows = table(tmp_path / "out")
    assert summary.objects == len(rows) == 3
    assert [row["class"] for row in rows] == ["lesion"] * 3
    assert abs(int(rows[1]["x1"]) - 70) <= 2


def test_a_failed_input_is_listed_and_the_others_are_done(scans, tmp_path):
    (scans / "d.png").write_text("a text file")
    (scans / "e.png").write_bytes((scans / "a.png").read_bytes()[:60])
    summary = predict("filler", [scans, tmp_path / "missing.png"], tmp_path / "out")
    assert len(summary.done) == 3
    reasons = {path.name: reason for path, reason in summary.failed}
    assert set(reasons) == {"d.png", "e.png", "missing.png"}
    assert "does not exist" in reasons["missing.png"]
    assert all(name in reason for name, reason in reasons.items())
    assert "failed: " in str(summary)


@pytest.mark.parametrize("bad", ["missing.png", "text.png", "empty"])
def test_nothing_usable_is_an_error_and_writes_nothing(tmp_path, bad):
    (tmp_path / "text.png").write_text("a text file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=bad):
        predict("filler", [tmp_path / bad], tmp_path / "out")
    with pytest.raises(InputError, match="none of 2 inputs"):
        predict("filler", [tmp_path / bad, tmp_path / "other"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_folder_of_an_input_is_never_written_to(scans, tmp_path):
    before = {path.name for path in scans.iterdir()}
    for out in (scans, scans / "inside" / "..", scans / "a.png"):
        with pytest.raises(InputError):
            predict("filler", [scans], out)
    assert {path.name for path in scans.iterdir()} == before


def test_two_inputs_of_one_name_do_not_overwrite_each_other(scans, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    cv2.imwrite(str(other / "a.png"), np.zeros((20, 20), dtype=np.uint8))
    inputs = [scans / "a.png", other / "a.png", scans / "a.png"]
    summary = predict("filler", inputs, tmp_path / "out")
    assert len(summary.done) == 2  # the same file named twice is one input
    assert mask_of(tmp_path / "out", "a.png").shape == (60, 80)
    assert mask_of(tmp_path / "out", "a_2.png").shape == (20, 20)


def test_prompts_from_a_file(scans, tmp_path):
    prompts = tmp_path / "prompts.json"
    content = {
        "a.png": [{"box": [5, 5, 20, 20], "class": "cyst"}, {"points": [[60, 40, 1]]}],
        "b.png": [],
        "zzz.png": [{}],
    }
    prompts.write_text(json.dumps(content))
    summary = predict("filler", [scans], tmp_path / "out", prompts_file=prompts)
    assert [row["class"] for row in table(tmp_path / "out")] == ["cyst", "lesion"]
    assert not mask_of(tmp_path / "out", "b.png").any()
    assert [path.name for path, _ in summary.failed] == ["c.jpg"]
    assert "no entry for c.jpg" in summary.failed[0][1]
    assert "zzz.png" in str(summary)
    both = predict("filler", [scans], tmp_path / "out2", prompts_file=prompts, auto=True)
    assert len(both.done) == 3


def test_a_prompt_outside_one_image_fails_that_image_only(scans, tmp_path):
    cv2.imwrite(str(scans / "big.png"), np.eye(200, dtype=np.uint8))
    summary = predict("filler", [scans], tmp_path / "out", [(100, 100, 150, 150)])
    assert [path.name for path in summary.done] == ["big.png"]
    assert all("outside the image" in reason for _, reason in summary.failed)


def test_a_model_without_automatic_mode_says_what_to_give(scans, tmp_path, use, card):
    use(card.model_copy(update={"name": "litemedsam", "prompts": ("box",)}))
    with pytest.raises(InputError, match=r"litemedsam: has no automatic mode. Remedy: give --box"):
        predict("litemedsam", [scans], tmp_path / "out")
    with pytest.raises(InputError, match="has no automatic mode"):
        predict("litemedsam", [scans], tmp_path / "out", auto=True)
    with pytest.raises(InputError, match="has no point prompts. Remedy: give a box"):
        predict("litemedsam", [scans], tmp_path / "out", points=[(3, 3)])


def test_a_full_disk_stops_with_one_message(scans, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="No space left"):
        predict("filler", [scans], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.fixture
def cine(tmp_path) -> Path:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid

    frames = np.zeros((3, 40, 50), dtype=np.uint8)
    for k in range(3):
        frames[k, 10:20, 5 + 10 * k : 15 + 10 * k] = 255
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SOPClassUID = UltrasoundMultiFrameImageStorage
    dataset.Modality, dataset.PhotometricInterpretation = "US", "MONOCHROME2"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = 3, 40, 50
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelSpacing = [0.5, 0.25]
    dataset.PixelData = frames.tobytes()
    path = tmp_path / "loop.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_every_frame_of_a_cine_loop_has_its_own_mask(cine, tmp_path):
    summary = predict("filler", [cine], tmp_path / "out")
    rows = table(tmp_path / "out")
    assert len(summary.done) == 1
    assert [row["frame"] for row in rows] == ["0", "1", "2"]
    assert [row["mask"] for row in rows] == [f"loop_f00{k}.png" for k in range(3)]
    assert [int(row["x0"]) for row in rows] == pytest.approx([5, 15, 25], abs=1)
    for row in rows:
        assert float(row["area_mm2"]) == pytest.approx(int(row["area_px"]) * 0.125)
        assert float(row["longest_diameter_mm"]) == pytest.approx(np.hypot(5, 2.5), rel=0.1)


def test_a_loop_damaged_midway_leaves_nothing_behind(scans, cine, tmp_path, monkeypatch):
    from samling.data.readers import dicom

    whole = dicom.read_frames

    def damaged(path):
        for number, plane in enumerate(whole(path)):
            if number == 2:
                raise InputError(path, "cannot be decoded as DICOM", "export it again")
            yield plane

    monkeypatch.setattr(dicom, "read_frames", damaged)
    summary = predict("filler", [scans / "a.png", cine, scans / "b.png"], tmp_path / "out")
    assert [path.name for path, _ in summary.failed] == ["loop.dcm"]
    assert [row["file"] for row in table(tmp_path / "out")] == ["a.png", "b.png"]
    assert not list((tmp_path / "out").glob("loop*"))


def test_what_was_done_is_in_the_table_when_the_run_is_stopped(scans, tmp_path, monkeypatch):
    real = module.read_any

    def stopped(path):
        if path.name == "c.jpg":
            raise KeyboardInterrupt
        return real(path)

    monkeypatch.setattr(module, "read_any", stopped)
    with pytest.raises(KeyboardInterrupt):
        predict("filler", [scans], tmp_path / "out")
    assert [row["file"] for row in table(tmp_path / "out")] == ["a.png", "b.png"]


def test_masks_of_a_model_with_classes_hold_their_numbers(scans, tmp_path, use, card):
    prompts = tmp_path / "prompts.json"
    asked = [{"box": [5, 5, 20, 20], "class": "cyst"}, {"box": [40, 30, 70, 55]}]
    prompts.write_text(json.dumps({"a.png": asked}))
    predict("filler", [scans / "a.png"], tmp_path / "out", prompts_file=prompts)
    mask = mask_of(tmp_path / "out", "a.png")
    assert (mask[12, 12], mask[42, 55], mask[0, 0]) == (2, 1, 0)
    use(card.model_copy(update={"classes": ("lesion",)}))
    predict("filler", [scans / "a.png"], tmp_path / "one", auto=True)
    assert set(np.unique(mask_of(tmp_path / "one", "a.png"))) == {0, 255}


def test_a_loop_that_is_too_long_is_refused(cine, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FRAMES_AT_MOST", 2)
    with pytest.raises(InputError, match="has 3 frames"):
        predict("filler", [cine], tmp_path / "out")


def calibrated(card, **curves):
    calibration = Calibration(level=0.9, temperature=1.0, store="s", split_hash="h", curves=curves)
    return card.model_copy(update={"calibration": calibration})


def curve(dice, margin=0.2):
    return Curve(quality=(0.5,), dice=(dice,), margin=margin, objects=20)


@pytest.fixture
def dark(scans):
    cv2.imwrite(str(scans / "dark.png"), np.zeros((60, 80), dtype=np.uint8))
    return scans / "dark.png"


def test_a_box_half_outside_and_a_picture_of_nothing_are_said(scans, dark, tmp_path):
    boxes = [(60.0, 10.0, 81.0, 40.0), (60.0, 10.0, 120.0, 40.0)]  # 80 x 60 pixels
    said = str(predict("filler", [scans / "a.png", dark], tmp_path / "out", boxes))
    assert said.count("reaches outside of the image (80 x 60 pixels)") == 2  # of each image one
    assert "a.png, object 2: the box" in said and "object 1: the box" not in said
    assert said.count("one grey value only") == 1 and "dark.png holds one" in said
    cv2.imwrite(str(scans / "large.png"), np.eye(200, dtype=np.uint8))
    files, far = [scans / "large.png", scans / "a.png"], [(100.0, 100.0, 150.0, 150.0)]
    summary = predict("filler", files, tmp_path / "far", far)
    assert len(summary.failed) == 1 and "reaches outside" not in str(summary)


def test_a_frame_of_nothing_is_said_of_that_frame(cine, tmp_path, monkeypatch):
    planes = [ImagePlane(np.full((60, 80), value, np.uint8)) for value in (0, 0)]
    planes[1].pixels[5, 5] = 9
    monkeypatch.setattr("samling.data.readers.dicom.read_frames", lambda path: iter(planes))
    said = str(predict("filler", [cine], tmp_path / "out", [(5.0, 5.0, 20.0, 20.0)]))
    assert said.count("one grey value only") == 1 and f"{cine} frame 0 holds one" in said


def test_an_image_where_nothing_was_found_has_a_row_that_asks_for_a_look(scans, dark, tmp_path):
    summary = predict("filler", [scans], tmp_path / "out")
    assert len(summary.done) == 4 and summary.objects == 3
    (row,) = [row for row in table(tmp_path / "out") if row["file"] == "dark.png"]
    filled = {name: value for name, value in row.items() if value}
    assert filled == {
        "file": "dark.png", "object": "0", "look": "yes", "reason": "nothing found",
        "mask": "dark.png",
    }  # fmt: skip
    assert str(summary).count("nothing was found on 1 image:") == 1


@pytest.mark.parametrize(("share", "look", "reason"), [
    (0.5, "yes", "nothing found"), (1.0, "no", ""),
])  # fmt: skip
def test_a_calibrated_model_says_how_sure_it_is_of_nothing(
    dark, tmp_path, use, card, share, look, reason
):
    use(calibrated(card, automatic=curve(0.9), nothing=curve(share)))
    predict("filler", [dark], tmp_path / "out")
    (row,) = table(tmp_path / "out")
    assert float(row["expected_dice"]) == share
    assert (row["look"], row["reason"]) == (look, reason)


def test_nothing_was_found_where_nothing_was_asked_is_not_said(scans, tmp_path):
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps({"a.png": []}))
    summary = predict("filler", [scans / "a.png"], tmp_path / "out", prompts_file=prompts)
    assert table(tmp_path / "out") == [] and "nothing was found" not in str(summary)


def test_a_model_that_is_not_calibrated_says_so_once(scans, tmp_path, use, card):
    said = str(predict("filler", [scans], tmp_path / "a"))
    assert said.count("not calibrated") == 1 and "samling calibrate" in said
    use(calibrated(card, box=curve(0.9), points=curve(0.9)))
    said = str(predict("filler", [scans], tmp_path / "b"))
    assert "not calibrated" not in said
    assert said.count("no expected Dice for automatic") == 1
    use(calibrated(card, box=curve(0.9), points=curve(0.9), automatic=curve(0.9)))
    said = str(predict("filler", [scans], tmp_path / "c"))
    assert "no expected Dice" not in said and said.count("expected Dice 0.90") == 3
    assert said.count("expected Dice holds on the whole for pictures like") == 1


def test_an_empty_mask_is_to_be_looked_at_however_sure_the_model_is(scans, tmp_path, use, card):
    use(calibrated(card.model_copy(update={"mask_threshold": 100.0}), box=curve(0.95)))
    summary = predict("filler", [scans / "a.png"], tmp_path / "out", [(5, 5, 20, 20)])
    (row,) = table(tmp_path / "out")
    assert (row["object"], row["area_px"], row["expected_dice"]) == ("1", "0", "")
    assert "1 mask is empty" in str(summary)
    assert (row["look"], row["reason"]) == ("yes", "nothing found")
