import csv
import threading
import time

import cv2
import numpy as np
import pytest

from samling.data.readers import cine as reader
from samling.errors import InputError
from samling.inference.backend import Encoding
from samling.inference.card import Card
from samling.inference.segmenter import Segmenter
from samling.recipes import cine as module
from samling.recipes.cine import CineOptions, cine


class Bright:
    def encode(self, plane):
        return Encoding(plane[None, None], 3.0)

    def decode(self, encoding, coords, labels, masks=None):
        low = np.repeat(encoding.embedding[0] - 0.5, len(coords), axis=0) * 20
        return low.astype(np.float32), np.full(len(coords), 0.75, dtype=np.float32)


@pytest.fixture(autouse=True)
def model(monkeypatch):
    card = Card(
        name="bright", base="none", base_sha256="0" * 64, input_size=64, embedding_size=16,
        prompts=("box", "automatic"),
    )  # fmt: skip
    monkeypatch.setattr(module, "load", lambda *_: Segmenter(Bright(), card))


def frame(number, width=10):
    picture = np.full((48, 64), 20, dtype=np.uint8)
    picture[10:20, 5 + number : 5 + number + width] = 250
    return picture


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(8):
        cv2.imwrite(str(tmp_path / "in" / f"{number:03d}.png"), frame(number, 10 + 2 * number))
    return tmp_path / "in"


def rows(out):
    with (out / "frames.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_folder_of_frames_becomes_video_table_and_curve(folder, tmp_path):
    summary = cine("any", str(folder), tmp_path / "out")
    assert summary.frames == 8 and summary.rate is None
    assert "source" not in str(summary)  # pictures come at no rate that one could keep up with
    assert all(row["seconds"] == "" for row in rows(tmp_path / "out"))
    assert "8 frames</text>" in (tmp_path / "out" / "area.svg").read_text()
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"annotated.mp4", "frames.csv", "area.svg"}
    areas = [int(row["area_px"]) for row in rows(tmp_path / "out")]
    for number, area in enumerate(areas):
        assert area == pytest.approx(10 * (10 + 2 * number), rel=0.15)
    video = cv2.VideoCapture(str(tmp_path / "out" / "annotated.mp4"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 8
    assert video.get(cv2.CAP_PROP_FPS) == 25


def test_a_video_is_read_as_its_frames_are(folder, tmp_path):
    path = tmp_path / "loop.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 12.0, (64, 48))
    for number in range(6):
        writer.write(np.repeat(frame(number)[..., None], 3, axis=2))
    writer.release()
    summary = cine("any", str(path), tmp_path / "out", box=(0, 5, 20, 25))
    assert (summary.frames, summary.rate) == (6, 12.0)
    assert "the source's 12;" in str(summary)
    assert rows(tmp_path / "out")[-1]["seconds"] == f"{5 / 12:.4f}"
    assert all(int(row["area_px"]) == pytest.approx(100, rel=0.2) for row in rows(tmp_path / "out"))


def test_a_watched_folder_gives_what_is_written_into_it(tmp_path):
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    cv2.imwrite(str(incoming / "old.png"), frame(0))

    def scanner():
        for number in range(3):
            time.sleep(0.25)
            (incoming / f"{number}.txt").write_text("no image")
            cv2.imwrite(str(incoming / f"{number}.png"), frame(number))

    thread = threading.Thread(target=scanner)
    thread.start()
    summary = cine(
        "any", str(incoming), tmp_path / "out", options=CineOptions(watched=True, idle_s=3.0)
    )
    thread.join()
    assert summary.frames == 3


def test_a_frame_whose_writer_paused_is_not_lost(tmp_path):
    """A torn file stands still for many looks, then the rest comes."""
    whole = cv2.imencode(".png", frame(2))[1].tobytes()

    def scanner():
        with (tmp_path / "0.png").open("wb") as file:
            file.write(whole[: len(whole) // 2])
            file.flush()
            time.sleep(0.5)
            file.write(whole[len(whole) // 2 :])

    found = reader.watch(tmp_path, 4.0)
    threading.Timer(0.2, scanner).start()
    assert np.array_equal(next(found.frames), frame(2))


def test_what_was_segmented_is_kept_when_the_stream_breaks_off(folder, tmp_path):
    (folder / "005.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(InputError, match=r"005\.png"):
        cine("any", str(folder), tmp_path / "out")
    assert len(rows(tmp_path / "out")) == 5
    assert not list((tmp_path / "out").glob(".*"))


def test_a_stream_without_a_frame_leaves_earlier_results_alone(folder, tmp_path):
    out = tmp_path / "out"
    cine("any", str(folder), out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    quiet = CineOptions(watched=True, idle_s=0.0)
    with pytest.raises(InputError, match="gave no frame"):
        cine("any", str(folder), out, options=quiet)
    with pytest.raises(InputError):  # the model's first answer is a fault
        cine("any", str(folder), out, box=(500, 500, 600, 600))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_window_needs_hounsfield_units_in_every_frame(
    folder, tmp_path, monkeypatch, ct_phantom, write_series
):
    card = Card(
        name="ct", base="none", base_sha256="0" * 64, input_size=64, embedding_size=16,
        prompts=("box", "automatic"), window_hu=(40, 400),
    )  # fmt: skip
    monkeypatch.setattr(module, "load", lambda *_: Segmenter(Bright(), card))
    for source in (str(folder), "camera:0", str(tmp_path / "loop.mp4")):
        with pytest.raises(InputError, match="no Hounsfield units"):
            cine("any", source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    scan = tmp_path / "scan"
    write_series(scan, ct_phantom[10:13])
    assert cine("any", str(scan), tmp_path / "out").frames == 3
    cv2.imwrite(str(scan / "z.png"), np.zeros((64, 64), dtype=np.uint8))
    with pytest.raises(InputError, match=r"z\.png.*no Hounsfield units"):
        cine("any", str(scan), tmp_path / "out")


def test_a_watched_frame_without_hounsfield_units_ends_the_stream(folder):
    planes = ((path, reader.read_any(path)) for path in sorted(folder.iterdir()))
    with pytest.raises(InputError, match="no Hounsfield units"):
        next(reader._same_size(planes, strict=False, hounsfield=True))


def test_wrong_use_is_refused(folder, tmp_path):
    for source, said in (("camera:x", "names no camera"), (str(tmp_path / "no.mp4"), "not exist")):
        with pytest.raises(InputError, match=said):
            cine("any", source, tmp_path / "out")
    with pytest.raises(InputError, match="which the source is not"):
        cine("any", str(folder), tmp_path / "out", options=CineOptions(seg=True))


def test_the_real_loop_becomes_a_segmentation_of_its_thirty_frames(shared_data, tmp_path):
    pytest.importorskip("highdicom", reason="needs samling[volumes]")
    import pydicom

    for path in sorted((shared_data / "dicom" / "us").iterdir()):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        if int(header.get("NumberOfFrames") or 1) == 30:
            break
    summary = cine("any", str(path), tmp_path / "out", options=CineOptions(seg=True))
    assert summary.frames == 30
    found = pydicom.dcmread(tmp_path / "out" / "segmentation.dcm")
    assert found.Modality == "SEG"
    per_frame = [int(row["area_px"]) for row in rows(tmp_path / "out")]
    shown = sum(area > 0 for area in per_frame)
    assert int(found.NumberOfFrames) == shown
    assert int(found.pixel_array.sum()) == sum(per_frame)
