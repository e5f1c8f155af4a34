"""costs: all methods of a store timed in one go, and again where anything has changed."""

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from samling.evaluation import cost as timing
from samling.evaluation.baselines import Baseline, baseline
from samling.recipes import costs
from samling.recipes.compare import compare

pytest.importorskip("h5py")
pytest.importorskip("matplotlib")


class Clock:
    """Times nothing: counts, so that every time is another one."""

    def __init__(self) -> None:
        self.timed: list[str] = []
        self.fail: set[str] = set()

    def __call__(self, segmenter: Baseline, images: list[Any], parameters: int) -> timing.Cost:
        name = segmenter.card.name
        if name in self.fail:
            raise RuntimeError("no time\nfor it")
        self.timed.append(name)
        number = float(len(self.timed))
        return timing.Cost(parameters, number, number, number, number, 20)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    counting = Clock()
    monkeypatch.setattr(costs, "measure_cost", counting)
    return counting


@pytest.fixture
def write(write_plan):
    return partial(write_plan, name="a comparison", baselines=["fill the box"])


def load(name: str) -> Baseline:
    made = baseline("ellipse in the box")
    made.card = made.card.model_copy(update={"name": Path(name).name})
    return made


def in_report(out: Path) -> dict[str, Any]:
    return json.loads((out / "comparison.json").read_text("utf-8"))["stores"]["tiny"]["costs"]


def test_a_new_method_has_all_timed_again_one_less_none(write, out, clock) -> None:
    compare(write(methods={"one": "one"}), out, load=load)
    assert clock.timed == ["one", "fill the box"]
    compare(write(methods={"one": "one"}), out, load=load)
    assert len(clock.timed) == 2
    compare(write(methods={"one": "one", "two": "two"}), out, load=load)
    assert clock.timed[2:] == ["one", "two", "fill the box"]
    assert {name: cost["cold_ms"] for name, cost in in_report(out).items()} == {
        "one": 3, "two": 4, "fill the box": 5,
    }  # fmt: skip
    compare(write(methods={"two": "two"}), out, load=load)
    assert len(clock.timed) == 5 and set(in_report(out)) == {"two", "fill the box"}


def test_of_seeds_the_first_is_timed_and_a_changed_model_anew(write, out, clock, tmp_path) -> None:
    for seed in (0, 1):
        (tmp_path / f"s{seed}").mkdir()
        save_file({"adapter.up": np.zeros(3)}, tmp_path / f"s{seed}" / "adapter.safetensors")
    plan = partial(write, methods={"mine": "s{seed}"}, seeds=[0, 1])
    compare(plan(), out, load=load)
    assert clock.timed == ["s0", "fill the box"]
    assert in_report(out)["mine"]["trained"] == 3
    save_file({"adapter.up": np.ones(3)}, tmp_path / "s1" / "adapter.safetensors")
    compare(plan(), out, load=load)
    assert len(clock.timed) == 2  # only the first seed is shown
    save_file({"adapter.up": np.ones(4)}, tmp_path / "s0" / "adapter.safetensors")
    compare(plan(), out, load=load)
    assert clock.timed[2:] == ["s0", "fill the box"] and in_report(out)["mine"]["trained"] == 4


@pytest.mark.parametrize("file", ["", "[]", "{}"])
def test_another_machine_or_a_damaged_file_has_all_timed_again(
    write, out, clock, monkeypatch, file
) -> None:
    compare(write(methods={"one": "one"}), out, load=load)
    (out / "costs.json").write_text(file, encoding="utf-8")
    compare(write(methods={"one": "one"}), out, load=load)
    assert len(clock.timed) == 4
    monkeypatch.setattr(costs.os, "cpu_count", lambda: 1000)
    compare(write(methods={"one": "one"}), out, load=load)
    assert len(clock.timed) == 6


def test_what_cannot_be_timed_is_a_failure_and_tried_again(write, out, clock) -> None:
    clock.fail = {"one"}
    plan = write(methods={"one": "one"})
    (failure,) = compare(plan, out, load=load).failures
    assert failure == "one on tiny, seed 0: not timed. no time for it"
    assert set(in_report(out)) == {"fill the box"}
    assert failure in (out / "report.html").read_text(encoding="utf-8")
    clock.fail = set()
    assert compare(plan, out, load=load).failures == ()
    assert set(in_report(out)) == {"one", "fill the box"}


def test_statistics_of_batch_norms_are_no_trained_weights(tmp_path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save

    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4))
    save(net.state_dict(), tmp_path / "network.safetensors")
    expected = sum(math.prod(weight.shape) for weight in net.parameters())
    assert costs._trained(str(tmp_path)) == expected == 48


def test_the_file_of_a_model_that_ships_is_its_weights() -> None:
    size = (Path(costs.__file__).parents[1] / "weights" / "base.safetensors").stat().st_size
    assert costs._file_mb("base") == costs._file_mb("base-zoom") == size / 1e6
    assert costs._file_mb("ellipse in the box") is None
