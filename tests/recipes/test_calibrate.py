"""calibrate: into the card, out of predict."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import samling
from samling.data.case import Case
from samling.data.splits import Splits
from samling.data.store import Store, write_store
from samling.errors import InputError
from samling.inference.backend import Encoding
from samling.inference.card import Card, as_calibrated
from samling.inference.expectation import Calibration, Curve
from samling.inference.segmenter import Segmenter
from samling.prompts.prompt import Prompt
from samling.recipes.build import load_base, save_base
from samling.recipes.calibrate import _fit, _fit_and_check, _with_enough, ask_case, calibrate
from samling.recipes.calibration_report import Answered, Half, check, page, sentences
from samling.recipes.predict import predict


@pytest.fixture(scope="module")
def hold_out(tiny_store, tmp_path_factory):
    """Write the phantoms again, so many times, all but two for validation; every one is a patient."""

    def write(times, name="held"):
        store = Store.open(tiny_store)
        cases = [
            replace(store.case(id), id=f"{id}-{n}", group=f"{id}-{n}")
            for n in range(times)
            for id in store.ids
        ]
        ids = [case.id for case in cases]
        path = tmp_path_factory.mktemp("store") / "held.h5"
        splits = Splits.of({"train": ids[:2], "val": ids[2:]})
        write_store(path, cases, splits, name=name, classes=store.classes, licence=store.licence)
        return path

    return write


@pytest.fixture(scope="module")
def held_out(hold_out):
    return hold_out(4)


@pytest.fixture(scope="module")
def calibrated(tiny_run, held_out, tmp_path_factory):
    run = tmp_path_factory.mktemp("calibrate") / "run"
    shutil.copytree(tiny_run, run)
    calibrate(run, [held_out], level=0.8)
    return run


def test_the_card_knows_a_curve_for_every_kind_of_prompt(calibrated) -> None:
    calibration = samling.load(calibrated).card.calibration
    assert calibration is not None and {"box", "points"} <= set(calibration.curves)
    assert calibration.store == "held" and calibration.temperature > 0


def test_what_it_promises_is_checked(calibrated) -> None:
    report = json.loads((calibrated / "calibration" / "calibration.json").read_text())
    assert 0 <= report["kinds"]["box"]["coverage"] <= 1 and report["kinds"]["box"]["objects"] > 0
    assert report["pixels"]["pixels, after"] >= 0
    for name in ("reliability.png", "risk_coverage.png"):
        assert Image.open(calibrated / "calibration" / name).width > 100
    assert "| jitter10 |" in (calibrated / "calibration" / "calibration.md").read_text()


def test_predict_says_what_to_expect(calibrated, tmp_path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (60, 60), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "scan.png")
    summary = str(
        predict(str(calibrated), [tmp_path / "scan.png"], tmp_path / "out", [[5, 5, 40, 40]])
    )
    assert "object 1: expected Dice" in summary and "look at it" in summary
    with (tmp_path / "out" / "results.csv").open() as stream:
        row = next(csv.DictReader(stream))
    assert float(row["expected_low"]) <= float(row["expected_dice"]) <= float(row["expected_high"])
    assert row["look"] == "yes"


def test_a_box_alone_and_one_point_are_promised_something_and_nothing_else(calibrated) -> None:
    """Calibration has seen no box that clicks corrected."""
    model = samling.load(calibrated)
    encoded = model.encode(np.random.default_rng(0).random((60, 60)).astype(np.float32))
    box, points = np.array([5.0, 5, 40, 40]), np.array([[20.0, 20], [25, 25]])
    ones = np.ones(2, dtype=np.int64)
    asked = {
        "a box": Prompt(box=box),
        "a point": Prompt(points=points[:1], point_labels=ones[:1]),
        "both": Prompt(box, points[:1], ones[:1]),
        "two points": Prompt(points=points, point_labels=ones),
    }
    known = {n: model.segment_encoded(encoded, [p])[0] for n, p in asked.items()}
    promised = {name for name, found in known.items() if found.expected is not None}
    assert all(found.box is not None for found in known.values())
    assert promised == {"a box", "a point"}
    assert as_calibrated(Prompt(mask=np.zeros((64, 64), np.float32))) is None


def test_masks_do_not_change(calibrated, tiny_run) -> None:
    image = np.random.default_rng(1).random((50, 50))
    one, other = (
        samling.load(r).predict(image, boxes=[[5, 5, 40, 40]]) for r in (tiny_run, calibrated)
    )
    assert np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1])


def test_too_few_objects_are_refused_and_nothing_is_installed(tiny_run, hold_out, tmp_path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    before = {file: file.read_bytes() for file in run.rglob("*.json")}
    with pytest.raises(InputError, match=r"box: \d+ objects .* 10 are needed.*more validation"):
        calibrate(run, [hold_out(1)])
    assert {file: file.read_bytes() for file in run.rglob("*.json")} == before


def answers(kind, count, dice=0.9, quality=0.9, **more):
    return [Answered("s", str(n), kind, quality, dice, **more) for n in range(count)]


def half(*given):
    return Half([answer for some in given for answer in some], [], [])


def fitted(level=0.9, **curves):
    return Calibration(level=level, temperature=1.0, store="s", split_hash="h", curves=curves)


NARROW = Curve(quality=(0.5,), dice=(0.9,), margin=0.2, objects=20)


def test_automatic_mode_that_finds_little_goes_without() -> None:
    said: list[str] = []
    asked = half(answers("box", 10), answers("automatic", 9))
    more = half(answers("box", 30), answers("automatic", 30))
    assert _with_enough([asked, more], ["box", "automatic"], 0.9, "x.h5", said.append) == ["box"]
    assert "automatic: 9 objects" in said[0]
    with pytest.raises(InputError, match="box: 10 objects .* 19 are needed for an interval of 95%"):
        _with_enough([asked, more], ["box"], 0.95, "x.h5", said.append)
    with pytest.raises(InputError, match="automatic: 9 objects"):
        _with_enough([asked, more], ["automatic"], 0.9, "x.h5", said.append)


def test_a_kind_whose_intervals_hold_too_little_is_not_installed(tmp_path) -> None:
    checked = half(
        answers("box", 40), answers("points", 23), answers("points", 8, dice=0.2),
        answers("automatic", 12),
    )  # fmt: skip
    found = fitted(box=NARROW, points=NARROW, automatic=NARROW, nothing=NARROW)
    report = check(found, [(found, checked)], tmp_path)
    assert {k: v["installed"] for k, v in report["kinds"].items()} == {
        "box": True, "points": False, "automatic": True, "nothing": False,
    }  # fmt: skip
    said = sentences(report)
    assert (
        "point1: coverage 0.742 (0.55-0.88) of nominal 0.90: do not rely on it; not installed."
        in said
    )
    assert any(text.startswith("auto: ") and "checked on 12 alone" in text for text in said)
    assert any(
        text.startswith("auto, nothing found: too few answers in either half") for text in said
    )
    assert any(text.startswith("jitter10: ") and "wider than they need" in text for text in said)
    lines = page(report, "box")
    assert "| point1 | 31 | 0.742 (0.55-0.88) |" in lines and "| **no** |" in lines


def test_an_expectation_that_is_worse_than_the_quality_is_told(tmp_path) -> None:
    for quality, worse in ((0.885, True), (0.2, False)):
        checked = half(answers("box", 30, dice=0.88, quality=quality))
        said = sentences(check(fitted(box=NARROW), [(fitted(box=NARROW), checked)], tmp_path))
        expected = "jitter10: in the check expected Dice was off by 0.020"
        assert any(text.startswith(expected) for text in said) == worse


def test_each_kind_of_prompt_has_its_own_warning(tmp_path) -> None:
    """Many boxes do not make up for few points."""
    checked = half(answers("box", 30), answers("points", 19))
    found = fitted(box=NARROW, points=NARROW)
    said = sentences(check(found, [(found, checked)], tmp_path))
    (warning,) = [text for text in said if "too few to trust" in text]
    assert warning.startswith("point1: ") and "checked on 19 alone" in warning


def test_lesions_that_were_missed_without_an_answer_are_counted(tmp_path) -> None:
    both = [
        half(
            answers("automatic", 5),
            answers("nothing", 15, dice=1.0, quality=1.0),
            answers("nothing", 10, dice=0.0, quality=1.0, lesions=2),
        )
        for _ in range(2)
    ]
    fits = [_fit([one], [], 0.9, []) for one in both]
    curve = fits[0].curves["nothing"]
    assert curve.expect(1.0).dice == pytest.approx(0.6) and curve.expect(1.0).look
    report = check(fits[0], list(zip(fits, both, strict=True)), tmp_path)
    assert report["nothing_found"] == {
        "asked": 60, "nothing_found": 50, "with_a_lesion": 20, "lesions_missed": 40,
    }  # fmt: skip
    assert "nothing on 50 of 60 images; 20 of these hold 40 lesions" in page(report, "box")


def test_of_few_images_where_nothing_was_found_no_share_is_promised(tmp_path) -> None:
    few = half(answers("nothing", 19, dice=1.0, quality=1.0))
    assert "nothing" not in _fit([few], [], 0.9, []).curves
    enough = half(answers("nothing", 20, dice=1.0, quality=1.0))
    found = _fit([enough], [], 0.9, [])
    report = check(found, [(found, few), (_fit([few], [], 0.9, []), enough)], tmp_path)
    assert not report["kinds"]["nothing"]["installed"]
    assert any("19 alone; not installed" in text for text in sentences(report))


def test_each_half_is_judged_by_what_was_fitted_to_the_other(tmp_path) -> None:
    """Two sets, told apart in the table; a half that expects too much of the other is found out."""
    low, high = (
        half([replace(a, store=name) for a in answers("box", 25, dice=dice)])
        for name, dice in (("s", 0.2), ("other", 0.9))
    )
    fits = [_fit([one], ["box"], 0.9, []) for one in (low, high)]
    assert [round(fit.curves["box"].expect(0.9).dice, 6) for fit in fits] == [0.2, 0.9]
    found = _fit([low, high], ["box"], 0.9, [])
    assert found.curves["box"].objects == 50
    assert found.curves["box"].expect(0.9).dice == pytest.approx(0.55)
    same, crossed = _fit_and_check([low, high], ["box"], 0.9, [], tmp_path)
    assert same == found
    assert crossed["kinds"]["box"]["coverage"] == 0 and crossed["kinds"]["box"]["objects"] == 50
    own = check(found, [(fits[0], low), (fits[1], high)], tmp_path)
    assert own["kinds"]["box"]["coverage"] == 1
    said = sentences(crossed)
    for name in ("s", "other"):
        assert any(text.startswith(f"jitter10 in {name} alone: coverage 0.000") for text in said)


def test_what_fails_in_one_data_set_is_promised_in_none(tmp_path) -> None:
    """90 % of all, but nothing of a tenth of them: whoever has such pictures must not be told otherwise."""
    most, few = (
        [replace(a, store=name) for a in answers("box", count, dice=dice)]
        for name, count, dice in (("good", 400, 0.9), ("bad", 40, 0.2))
    )
    found = _fit([half(most)], ["box"], 0.9, [])
    report = check(found, [(found, half([*most, *few]))], tmp_path)
    assert report["kinds"]["box"]["coverage"] == pytest.approx(400 / 440)
    assert not report["kinds"]["box"]["installed"]
    assert "jitter10: too low in bad, not installed." in sentences(report)
    assert check(found, [(found, half(most))], tmp_path)["kinds"]["box"]["installed"]


def test_a_temperature_that_does_not_help_is_not_installed(tmp_path) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2, size=20_000)
    right = rng.random(20_000) < 1 / (1 + np.exp(-logits))
    for stretched, helps in ((logits, False), (2 * logits, True)):
        found = fitted().model_copy(update={"temperature": 2.0})
        report = check(found, [(found, Half([], [stretched], [right]))], tmp_path)
        assert report["temperature_installed"] == helps
        assert any("does not help on the other" in text for text in sentences(report)) != helps


def test_errors_of_two_halves_do_not_cancel(tmp_path) -> None:
    """Too sure in one half and too unsure in the other, by temperatures that fit neither."""
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2, size=20_000)
    right = rng.random(20_000) < 1 / (1 + np.exp(-logits))
    fits = [fitted().model_copy(update={"temperature": t}) for t in (0.5, 2.0)]
    checks = [(fit, Half([], [logits], [right])) for fit in fits]
    report = check(fitted(), checks, tmp_path)
    assert report["pixels"]["pixels, after"] > 5 * report["pixels"]["pixels, before"]
    assert not report["temperature_installed"]


class Blind:
    """A model that finds nothing by itself and fills the whole image where it is asked about a box."""

    def encode(self, plane):
        return Encoding(plane[None, None], -9.0)

    def decode(self, encoding, coords, labels, masks=None):
        return np.full((len(coords), 64, 64), 4.0, np.float32), np.ones(len(coords), np.float32)


@pytest.fixture
def blind():
    card = Card(
        name="blind", base="none", base_sha256="0" * 64, input_size=64, embedding_size=16,
        prompts=("box", "automatic"),
    )  # fmt: skip
    return Segmenter(Blind(), card)


def test_an_answer_that_holds_nothing_is_right_on_an_empty_image_alone(blind) -> None:
    labels = np.zeros((64, 64), np.uint8)
    labels[10:30, 10:30] = 1
    asked = Half([], [], [])
    for id, label in (("lesion", labels), ("empty", labels * 0)):
        image = np.zeros((64, 64), np.float32)
        ask_case(blind, Case(id=id, image=image, labels=label), asked, "set")
    found = [(a.group, a.dice, a.lesions) for a in asked.of("nothing")]
    assert found == [("set/lesion", 0.0, 1), ("set/empty", 1.0, 0)]
    assert len(asked.of("box")) == 1 and not asked.of("automatic")
    assert len(asked.logits) == 1  # of boxes, which the empty image has none of


def test_the_temperature_is_that_of_its_own_kind_of_prompt(blind) -> None:
    found = fitted().model_copy(update={"temperature": 2.0})
    card = blind.card.model_copy(update={"calibration": found, "presence_threshold": 0.0})
    warm = Segmenter(Blind(), card)
    encoded = warm.encode(np.eye(64, dtype=np.float32))
    box, automatic = Prompt(box=np.array([5.0, 5, 30, 30])), Prompt()
    assert warm.foreground(encoded, [box])[9, 9] == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-6)
    assert warm.foreground(encoded, [automatic])[9, 9] == pytest.approx(
        1 / (1 + np.exp(-4)), abs=1e-6
    )


def test_a_name_has_no_card_to_write(tiny_store, tmp_path) -> None:
    with pytest.raises(InputError, match="no card that could be rewritten"):
        calibrate(tmp_path, [tiny_store])
    with pytest.raises(InputError, match="samling export litemedsam -o litemedsam.bundle"):
        calibrate(Path("litemedsam"), [tiny_store])


def test_a_base_is_calibrated_on_several_stores_and_keeps_its_card(hold_out, tmp_path) -> None:
    base = load_base("untrained")
    card = base.card.model_copy(update={"name": "b", "base": "b", "prompts": ("box",)})
    save_base(tmp_path / "b", base.model, card)
    before = Card.read(tmp_path / "b" / "base.json")
    out = tmp_path / "report"
    stores = [hold_out(1), hold_out(1, "other")]
    calibrate(tmp_path / "b", stores, level=0.8, out=out)
    after = Card.read(tmp_path / "b" / "base.json")
    assert after.calibration is not None
    assert after.model_copy(update={"calibration": None}) == before
    assert after.calibration.store == "held+other"
    report = json.loads((out / "calibration.json").read_text())
    counts = [report["stores"][name]["box"]["objects"] for name in ("held", "other")]
    assert min(counts) > 0 and sum(counts) == report["kinds"]["box"]["objects"]
    assert "mixed as these are" in (out / "calibration.md").read_text()
    assert not (tmp_path / "b" / "calibration").exists()
    with pytest.raises(InputError, match="give each store once"):
        calibrate(tmp_path / "b", [stores[0], hold_out(2)], out=out)
