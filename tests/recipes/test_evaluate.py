"""evaluate: from a store to the report, with a real Segmenter over a simple backend."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from samling.errors import InputError
from samling.inference.backend import Encoding
from samling.inference.card import Card
from samling.inference.segmenter import Segmenter
from samling.recipes.evaluate import Counting, evaluate

pytest.importorskip("h5py")
PROTOCOLS = ["box", "jitter10", "point1", "auto"]


class DarkBackend:
    """Calls dark pixels foreground: inside the box, around the point, or everywhere.

    Args:
        darkness: pixels below this, in [0, 1], are foreground.
    """

    def __init__(self, darkness: float) -> None:
        self.darkness = darkness
        self.encoded = 0

    def encode(self, plane: np.ndarray) -> Encoding:
        self.encoded += 1
        small = cv2.resize(
            cv2.GaussianBlur(plane, (0, 0), 4), (64, 64), interpolation=cv2.INTER_AREA
        )
        return Encoding(small[None, None], None)

    def decode(self, encoding, coords, labels, masks=None):
        planes = [
            self._logits(encoding.embedding[0, 0], c, k)
            for c, k in zip(coords, labels, strict=True)
        ]
        return np.stack(planes).astype(np.float32), np.full(len(planes), 0.8, np.float32)

    def _logits(self, plane: np.ndarray, coords: np.ndarray, labels: np.ndarray) -> np.ndarray:
        y, x = np.indices(plane.shape) * 4.0 + 1.5
        logits = (self.darkness - plane) * 20
        if 2 in labels:
            (x0, y0), (x1, y1) = coords[labels == 2][0], coords[labels == 3][0]
            outside = (x < x0) | (x > x1) | (y < y0) | (y > y1)
        elif 1 in labels:
            outside = np.hypot(*(np.array([x, y]) - coords[0][:, None, None])) > 25
        else:
            outside = (y < 30) | (y > 150)
        return np.where(outside, -8.0, logits)


def card(**changes: object) -> Card:
    plain = {"name": "dark", "base": "grey", "base_sha256": "0" * 64, "embedding_size": 16,
             "prompts": ("box", "points", "automatic")}  # fmt: skip
    return Card.model_validate(plain | changes)


@pytest.fixture
def models() -> dict[str, Segmenter]:
    return {
        "runs/dark": Segmenter(DarkBackend(0.35), card(adapter={"kind": "lr", "rank": 4})),
        "grey": Segmenter(DarkBackend(0.2), card(name="grey", prompts=("box",))),
        "lonely": Segmenter(DarkBackend(0.35), card(base="gone", adapter={"kind": "lr"})),
        "boxes": Segmenter(DarkBackend(0.35), card(name="boxes", prompts=("box",))),
    }


@pytest.fixture
def load(models):
    def by_name(name: str) -> Segmenter:
        if name not in models:
            raise InputError(name, "its weights are not on this machine", "fetch them")
        return models[name]

    return by_name


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def results(out: Path) -> dict:
    return json.loads((out / "results.json").read_text(encoding="utf-8"))


def test_everything_is_written(tiny_store: Path, out: Path, load, models) -> None:
    said: list[str] = []
    report = evaluate(
        "runs/dark", tiny_store, out, "val", PROTOCOLS, load=load, progress=said.append
    )
    assert report == out / "report.html"
    names = {path.name for path in out.iterdir()}
    assert names == {
        "results.json", "results.csv", "table.md", "report.html",
        "sheet_all.png", "robustness.png",
    }  # fmt: skip
    found = results(out)
    methods = {(score["protocol"], score["method"]) for score in found["scores"]}
    beside = {"grey without adapter", "fill the box", "ellipse in the box", "dark"}
    assert (
        {m for p, m in methods if p == "box"}
        == {m for p, m in methods if p == "jitter10"}
        == beside
    )
    assert {m for p, m in methods if p in ("point1", "auto")} == {"dark"}
    assert any("grey without adapter" in note and "point1" in note for note in found["notes"])
    assert any("images/s" in line for line in said)
    html = report.read_text(encoding="utf-8")
    assert html.count("data:image/jpeg;base64,") == 1
    assert "Mask threshold" in html and "+0.00 (logit)" in html
    assert "ellipse in the box" in html and found["store"]["content_hash"] in html


def test_numbers_agree_between_files(tiny_store: Path, out: Path, load) -> None:
    evaluate("runs/dark", tiny_store, out, "val", ["box"], load=load)
    lines = list(csv.DictReader((out / "results.csv").open(encoding="utf-8")))
    dice = [float(r["dice"]) for r in lines if r["method"] == "dark" and r["counted"] == "1"]
    (score,) = [s for s in results(out)["scores"] if s["method"] == "dark"]
    assert score["n"] == len(dice)
    assert score["dice"]["mean"] == pytest.approx(np.mean(dice), abs=1e-5)
    assert score["dice"]["low"] <= score["dice"]["mean"] <= score["dice"]["high"]
    assert f"**{score['dice']['mean']:.3f}" in (out / "table.md").read_text(encoding="utf-8")


def test_patients_may_weigh_the_same(tiny_store: Path, out: Path, load) -> None:
    evaluate("boxes", tiny_store, out, "val", ["box"], load=load, counting=Counting("patient"))
    assert results(out)["means_over"] == "patient"
    assert "Means over patients" in (out / "table.md").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="--mean"):
        evaluate("boxes", tiny_store, out, "val", ["box"], load=load, counting=Counting("slice"))


def test_probabilities_tests_and_the_variant_of_hd95_are_reported(tiny_store, out, load) -> None:
    evaluate("runs/dark", tiny_store, out, "val", ["box", "auto"], load=load)
    found = results(out)
    own = [score for score in found["scores"] if score["method"] == "dark"]
    assert all(score["cross_entropy"]["mean"] > 0 for score in own)
    against = {(test["protocol"], test["other"]) for test in found["paired_tests"]}
    assert ("box", "ellipse in the box") in against
    for name in ("table.md", "report.html"):
        text = (out / name).read_text(encoding="utf-8")
        assert "larger of the two directed 95th percentiles" in text
        assert "Holm" in text


def test_same_numbers_twice(tiny_store: Path, tmp_path: Path, load) -> None:
    for name in ("a", "b"):
        evaluate("runs/dark", tiny_store, tmp_path / name, "val", PROTOCOLS, load=load)
    assert (tmp_path / "a/results.csv").read_bytes() == (tmp_path / "b/results.csv").read_bytes()


def test_looking_at_the_test_set_is_recorded(tiny_store: Path, out: Path, load) -> None:
    said: list[str] = []
    for _ in range(2):
        evaluate("boxes", tiny_store, out, "test", ["box"], load=load, progress=said.append)
    record = json.loads((out / "test_touched.json").read_text(encoding="utf-8"))
    assert [entry["model"] for entry in record] == ["boxes", "boxes"]
    touched = [line for line in said if "test set" in line]
    assert "touched" in touched[0] and "1 time(s) before" in touched[1]
    assert any("touched" in note for note in results(out)["notes"])


def test_validation_leaves_no_record(tiny_store: Path, out: Path, load) -> None:
    evaluate("boxes", tiny_store, out, "val", ["box"], load=load)
    assert not (out / "test_touched.json").exists()


def test_a_base_that_cannot_be_had_is_told(tiny_store: Path, out: Path, load) -> None:
    evaluate("lonely", tiny_store, out, "val", ["box"], load=load)
    (note,) = [note for note in results(out)["notes"] if "not measured" in note]
    assert "gone without adapter" in note and "fetch them" in note
    assert "gone without adapter" in (out / "report.html").read_text(encoding="utf-8")


def test_the_base_of_a_run_with_clahe_is_shown_the_pictures_without(
    tiny_store: Path, tmp_path: Path, load, models
) -> None:
    plain = models["runs/dark"]
    models["clahe"] = Segmenter(plain.backend, plain.card.model_copy(update={"clahe": 2.0}))
    for name, told in (("runs/dark", False), ("clahe", True)):
        evaluate(name, tiny_store, tmp_path / name, "val", ["box"], load=load)
        notes = results(tmp_path / name)["notes"]
        assert ("grey without adapter: shown the pictures without CLAHE" in notes) is told


def test_a_prompt_the_model_lacks_is_told_and_the_rest_measured(tiny_store, out, load) -> None:
    evaluate("boxes", tiny_store, out, "val", ["boxclicks2", "point1", "box"], load=load)
    assert results(out)["protocols"] == ["box"]
    assert any("not made for boxclicks2, point1" in note for note in results(out)["notes"])


def test_another_split_of_the_training_data_is_a_leak(tiny_store, out, load, models) -> None:
    from samling.data.store import Store

    right = Store.open(tiny_store).splits.hash
    stale = card(trained_on=("other", "tiny"), split_hash=f"{right}+{'f' * 64}")
    models["stale"] = Segmenter(DarkBackend(0.3), stale)
    with pytest.raises(InputError, match="may be among those"):
        evaluate("stale", tiny_store, out, "val", ["box"], load=load)
    assert not out.exists()
    fine = card(trained_on=("other", "tiny"), split_hash=f"{'f' * 64}+{right}")
    models["fine"] = Segmenter(DarkBackend(0.3), fine)
    evaluate("fine", tiny_store, out, "val", ["box"], load=load)


def test_damaged_pictures_are_in_the_table_with_intervals(tiny_store, out, load) -> None:
    evaluate("boxes", tiny_store, out, "val", ["box~shadow2"], load=load)
    for name in ("table.md", "report.html"):
        text = (out / name).read_text(encoding="utf-8")
        assert (
            "Change in points of Dice (95% interval) on damaged pictures" in text
            and "shadow" in text
        )


def test_what_flatters_the_scores_follows_the_first_of_them(tiny_store, out, load, models) -> None:
    models["well-read"] = Segmenter(DarkBackend(0.3), card(trained_on=("busi", "ddti")))
    report = evaluate("well-read", tiny_store, out, "val", ["box"], load=load)
    (caveat,) = [note for note in results(out)["notes"] if "busi, ddti" in note]
    lead = report.read_text(encoding="utf-8").partition('<p class="lead">')[2].partition("</p>")[0]
    assert lead.endswith(caveat) and "mean Dice" in lead
    assert (out / "table.md").read_text(encoding="utf-8").startswith(caveat)  # what is printed


@pytest.mark.parametrize(
    ("split", "protocols", "words"),
    [("train", ["box"], "--split"), ("val", ["boxes"], "--prompts"), ("val", [], "--prompts"),
     ("val", ["point1"], "boxes"), ("val", ["all", "nonsense"], "--prompts")],
)  # fmt: skip
def test_wrong_use(tiny_store, out, load, split: str, protocols: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        evaluate("boxes", tiny_store, out, split, protocols, load=load)
    assert not out.exists()


def test_curves_of_a_run_are_shown_and_that_it_is_not_finished(
    tiny_store: Path, tmp_path: Path, out: Path, load, models
) -> None:
    pytest.importorskip("matplotlib")
    run = tmp_path / "run"
    run.mkdir()
    line = {"epoch": 1, "train": {"total": 1.0}, "val": {"box": 0.9, "score": 0.9}}
    (run / "metrics.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    models[str(run)] = models["boxes"]
    (run / "config.yaml").write_text("training: {epochs: 4}\n", encoding="utf-8")
    report = evaluate(str(run), tiny_store, out, "val", ["box"], load=load)
    assert (out / "curves.png").is_file()
    page = report.read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 1
    lead = page.partition('<p class="lead">')[2].partition("</p>")[0]
    assert "boxes (1 of 4 epochs) is not finished" in lead
