"""An archive of small pictures: interrupted, damaged, repeated. The model fills boxes."""

import csv
import fcntl
import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from samling.errors import InputError
from samling.inference.backend import Encoding
from samling.inference.card import Card
from samling.inference.results import ResultFolder
from samling.inference.segmenter import Segmenter
from samling.recipes import predict_archive as module
from samling.recipes.archive import record, tasks_of
from samling.recipes.predict import Run, is_image
from samling.recipes.predict_archive import Job, Worker, predict_archive

IMAGES = 12


class Threshold:
    """Whatever is asked: what is brighter than a half. Stops the process after some images."""

    def __init__(self, stop_after=None, presence=3.0):
        self.left = stop_after
        self.presence = presence

    def encode(self, plane):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        return Encoding(plane[None, None], self.presence)

    def decode(self, encoding, coords, labels, masks=None):
        low = np.repeat(encoding.embedding[0] - 0.5, len(coords), axis=0) * 20
        return low.astype(np.float32), np.full(len(coords), 0.75, dtype=np.float32)


@pytest.fixture
def use(monkeypatch):
    card = Card(
        name="threshold", base="none", base_sha256="0" * 64, input_size=64, embedding_size=16,
        prompts=("box", "automatic"),
    )  # fmt: skip

    def install(stop_after=None, name="threshold", presence=3.0):
        segmenter = Segmenter(
            Threshold(stop_after, presence), card.model_copy(update={"name": name})
        )
        monkeypatch.setattr(module, "load", lambda *_, **__: segmenter)

    install()
    return install


@pytest.fixture
def images(tmp_path):
    """Twelve images in three folders, the same names in each; one damaged, one no image."""
    folder = tmp_path / "in"
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        path = folder / f"patient{number // 4}" / f"scan{number % 4}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = rng.integers(0, 100, (40, 64), dtype=np.uint8)
        picture[5 : 10 + number, 8:40] = 250
        cv2.imwrite(str(path), picture)
    (folder / "patient1" / "scan2.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (folder / "notes.txt").write_text("no image")
    return folder


def job(out, **changes):
    return Job("threshold", str(out), **changes)


def content(folder):
    """Every file but its time of writing."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_every_image_is_in_the_manifest_and_faults_are_set_aside(use, images, tmp_path):
    summary = predict_archive(job(tmp_path / "out"), [images])
    assert summary.counts == {"done": 11, "failed": 1, "open": 0, "objects": 11, "nothing": 0}
    rows = list(csv.DictReader((tmp_path / "out" / "manifest.csv").open()))
    assert [row["file"] for row in rows if row["status"] == "failed"] == ["patient1/scan2.png"]
    assert "scan2.png" in next(row["error"] for row in rows if row["status"] == "failed")
    found = list(csv.DictReader((tmp_path / "out" / "results.csv").open()))
    assert len({row["mask"] for row in found}) == 11
    first = next(row for row in found if row["file"] == "patient0/scan0.png")
    assert int(first["area_px"]) == pytest.approx(5 * 32, rel=0.15)
    mask = cv2.imread(str(tmp_path / "out" / first["mask"]), cv2.IMREAD_UNCHANGED)
    assert (mask > 0).sum() == int(first["area_px"])


def test_interrupted_anywhere_and_resumed_equals_uninterrupted(use, images, tmp_path):
    predict_archive(job(tmp_path / "whole"), [images])
    for stop_after in (0, 1, 3, 5):
        use(stop_after)
        with pytest.raises(KeyboardInterrupt):
            predict_archive(job(tmp_path / "parts"), [images])
        leftovers = list((tmp_path / "parts").rglob(".*.part"))
        assert leftovers == []
    use()
    predict_archive(job(tmp_path / "parts"), [images])
    whole, parts = content(tmp_path / "whole"), content(tmp_path / "parts")
    assert whole == parts


def test_leftovers_are_swept_when_nobody_else_is_at_work(use, images, tmp_path):
    out = tmp_path / "out"
    predict_archive(job(out), [images])
    torn = out / ".scan.png.abc.part"
    torn.write_bytes(b"torn")
    with (out / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        predict_archive(job(out), [images])
        assert torn.exists()
    predict_archive(job(out), [images])
    assert not torn.exists()


def test_what_another_process_did_meanwhile_is_left_alone(use, images, tmp_path):
    out = tmp_path / "out"
    predict_archive(job(out), [images])
    use(stop_after=0)  # would stop at the first image
    worker = Worker(job(out))
    for task in tasks_of([images], is_image):
        worker(task)


def test_a_failure_takes_nothing_from_a_process_that_did_it(use, images, tmp_path):
    """Two processes on one image: the other one ends first, then this one fails."""
    predict_archive(job(tmp_path / "whole"), [images])
    out = tmp_path / "out"
    results = ResultFolder(out)
    [task, *_] = tasks_of([images], is_image)

    def late():
        results.add(Path(task.path), np.zeros((40, 64)), [], stem=task.stem)
        predict_archive(job(out), [images])  # the other process, all of it
        raise MemoryError

    record(out, task, results, late)
    assert content(out) == content(tmp_path / "whole")


def test_a_folder_without_locks_is_worked_on_all_the_same(use, images, tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refused)
    assert predict_archive(job(tmp_path / "out"), [images]).counts["done"] == 11


def test_what_is_done_is_not_done_again(use, images, tmp_path):
    predict_archive(job(tmp_path / "out"), [images])
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.png")}
    use(stop_after=0)  # would stop at the first image
    predict_archive(job(tmp_path / "out"), [images])
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.png")}


def test_a_changed_image_is_done_again_and_a_new_one_added(use, images, tmp_path):
    predict_archive(job(tmp_path / "out"), [images])
    good, broken = images / "patient1" / "scan1.png", images / "patient1" / "scan2.png"
    shutil.copy(good, broken)
    os.utime(broken, ns=(1, 1))
    shutil.copy(good, images / "patient2" / "scan9.png")
    summary = predict_archive(job(tmp_path / "out"), [images])
    assert summary.counts == {"done": 13, "failed": 0, "open": 0, "objects": 13, "nothing": 0}


def test_another_job_in_the_same_folder_is_refused(use, images, tmp_path):
    predict_archive(job(tmp_path / "out"), [images])
    with pytest.raises(InputError, match="other prompts"):
        predict_archive(job(tmp_path / "out", boxes=((1, 2, 30, 40),)), [images])
    use(name="another")
    with pytest.raises(InputError, match="another model"):
        predict_archive(job(tmp_path / "out"), [images])


def test_other_weights_under_the_same_card_are_another_job(use, images, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "adapter.safetensors").write_bytes(b"one")
    asked = Job(str(run), str(tmp_path / "out"))
    predict_archive(asked, [images])
    predict_archive(asked, [images])
    (run / "adapter.safetensors").write_bytes(b"two")
    with pytest.raises(InputError, match="another model"):
        predict_archive(asked, [images])


def test_own_masks_are_no_images_however_the_folder_is_named(use, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(images)
    first = predict_archive(job("in/out"), [images])
    assert first.counts["done"] == 11
    for out in ("in/out", "link/out", str(images / "out")):
        for given in (images, images.relative_to(tmp_path), tmp_path / "link"):
            assert predict_archive(job(out), [given]).counts == first.counts


def test_want_of_memory_leaves_an_image_open_for_the_next_run(use, images, tmp_path, monkeypatch):
    predict_file = Run.predict_file

    def short_of_memory(self, path, stem=None):
        if path.name == "scan3.png":
            raise MemoryError
        return predict_file(self, path, stem)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "predict_file", short_of_memory)
        summary = predict_archive(job(tmp_path / "out"), [images])
    assert summary.counts == {"done": 8, "failed": 1, "open": 3, "objects": 8, "nothing": 0}
    assert summary.failed and "open: 3" in str(summary)
    summary = predict_archive(job(tmp_path / "out"), [images])
    assert summary.counts == {"done": 11, "failed": 1, "open": 0, "objects": 11, "nothing": 0}
    assert "open" not in str(summary)


def test_names_of_results_are_unique(images):
    from samling.recipes.archive import tasks_of
    from samling.recipes.predict import is_image

    for name in ("a.png", "a.jpg", "a_f000.png", "a_f001_overlay.png", "a_overlay.png"):
        shutil.copy(images / "patient0" / "scan0.png", images / name)
    stems = {task.label: task.stem for task in tasks_of([images], is_image)}
    assert len(set(stems.values())) == len(stems) == IMAGES + 5
    assert stems["patient1/scan2.png"] == "patient1__scan2"
    # a loop a.dcm would write a_f000.png, an image a.png writes a_overlay.png
    assert stems["a_f000.png"] == "a_f000_"
    assert stems["a_f001_overlay.png"] == "a_f001_overlay_"
    assert stems["a_overlay.png"] != "a_overlay"


def test_a_record_says_all_of_its_image(use, images, tmp_path):
    predict_archive(job(tmp_path / "out"), [images])
    records = [json.loads(p.read_text()) for p in (tmp_path / "out" / "records").rglob("*.json")]
    assert len(records) == IMAGES
    assert {record["task"]["label"] for record in records} == {
        f"patient{n // 4}/scan{n % 4}.png" for n in range(IMAGES)
    }


def test_long_names_that_differ_at_their_end_keep_a_mask_each(use, images, tmp_path):
    names = ["ä" * 90, "ä" * 90 + "_2", "x" * 180, "x" * 180 + "y", "x" * 180 + "z"]
    (tmp_path / "in2").mkdir()
    for name in names:
        shutil.copy(images / "patient0" / "scan0.png", tmp_path / "in2" / f"{name}.png")
    summary = predict_archive(job(tmp_path / "out"), [tmp_path / "in2"])
    assert summary.counts["done"] == len(names)
    rows = list(csv.DictReader((tmp_path / "out" / "results.csv").open()))
    assert len({row["mask"] for row in rows}) == len(names)
    assert all((tmp_path / "out" / row["mask"]).is_file() for row in rows)
    assert len(list((tmp_path / "out").glob("*.png"))) == 2 * len(names)


def test_an_image_without_an_object_has_a_row_and_counts_as_none(use, images, tmp_path):
    use(presence=-3.0)
    summary = predict_archive(job(tmp_path / "out"), [images])
    assert summary.counts == {"done": 11, "failed": 1, "open": 0, "objects": 0, "nothing": 11}
    rows = list(csv.DictReader((tmp_path / "out" / "results.csv").open()))
    assert [row["object"] for row in rows] == ["0"] * 11
    assert {(row["look"], row["reason"]) for row in rows} == {("yes", "nothing found")}
    assert {row["file"] for row in rows} >= {"patient0/scan0.png", "patient2/scan3.png"}
    manifest = list(csv.DictReader((tmp_path / "out" / "manifest.csv").open()))
    assert {row["objects"] for row in manifest} == {"0"}
    assert "nothing was found on 11 images" in str(summary)
    assert "is not calibrated" in str(summary)
