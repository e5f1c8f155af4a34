"""calibrate: into the card, out of predict."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import samling
from samling.data.splits import Splits
from samling.data.store import Store, write_store
from samling.errors import InputError
from samling.recipes.calibrate import calibrate
from samling.recipes.predict import predict


@pytest.fixture(scope="module")
def hold_out(tiny_store, tmp_path_factory):
    """Write the phantoms again, so many times, all but two for validation; every one is a patient."""

    def write(times):
        store = Store.open(tiny_store)
        cases = [
            replace(store.case(id), id=f"{id}-{n}", group=f"{id}-{n}")
            for n in range(times)
            for id in store.ids
        ]
        ids = [case.id for case in cases]
        path = tmp_path_factory.mktemp("store") / "held.h5"
        splits = Splits.of({"train": ids[:2], "val": ids[2:]})
        write_store(path, cases, splits, name="held", classes=store.classes, licence=store.licence)
        return path

    return write


@pytest.fixture(scope="module")
def held_out(hold_out):
    return hold_out(4)


@pytest.fixture(scope="module")
def calibrated(tiny_run, held_out, tmp_path_factory):
    run = tmp_path_factory.mktemp("calibrate") / "run"
    shutil.copytree(tiny_run, run)
    calibrate(run, held_out, level=0.8)
    return run


def test_the_card_knows_a_curve_for_every_kind_of_prompt(calibrated) -> None:
    calibration = samling.load(calibrated).card.calibration
    assert calibration is not None and {"box", "points"} <= set(calibration.curves)
    assert calibration.store == "held" and calibration.temperature > 0


def test_what_it_promises_is_checked_on_the_other_half(calibrated) -> None:
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
        calibrate(run, hold_out(1))
    assert {file: file.read_bytes() for file in run.rglob("*.json")} == before


def test_automatic_mode_that_finds_little_goes_without(tmp_path) -> None:
    from samling.recipes.calibrate import Answered, Half, _with_enough

    said: list[str] = []
    asked = [Answered(str(n), "box", 0.9, 0.9) for n in range(10)]
    half = Half([*asked, *(Answered(str(n), "automatic", 0.9, 0.9) for n in range(9))], [], [])
    assert _with_enough(half, ["box", "automatic"], 0.9, tmp_path, said.append) == ["box"]
    assert "automatic: 9 objects" in said[0]
    with pytest.raises(InputError, match="box: 10 objects .* 19 are needed for an interval of 95%"):
        _with_enough(half, ["box"], 0.95, tmp_path, said.append)
    with pytest.raises(InputError, match="automatic: 9 objects"):
        _with_enough(half, ["automatic"], 0.9, tmp_path, said.append)


def test_a_name_has_no_card_to_write(tiny_store, tmp_path) -> None:
    with pytest.raises(InputError, match="no card that could be rewritten"):
        calibrate(tmp_path, tiny_store)
