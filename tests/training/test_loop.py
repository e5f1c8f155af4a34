"""The loop on a toy task: schedules by hand, resume equal to no interruption, means, best weights."""

import math
import time
from functools import partial
from multiprocessing import get_context

import numpy as np
import pytest
import torch

from samling.errors import InputError
from samling.training.checkpoint import read_checkpoint
from samling.training.log import read_metrics
from samling.training.loop import Schedule, Task, best_precision, fit, precision
from samling.training.randomness import generator

EPOCHS = 5


class Toy:
    """Linear regression on batches that depend on the epoch alone."""

    def __init__(self, fail_at: tuple[int, int] | None = None) -> None:
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(4, 1)
        self.optimizer = torch.optim.Adam(self.layer.parameters(), lr=0.1)
        self.best: list[dict[str, torch.Tensor]] = []
        self.fail_at = fail_at
        self.rates: list[float] = []

    def step(self, epoch, number):
        if (epoch, number) == self.fail_at:
            raise KeyboardInterrupt
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        x = torch.from_numpy(generator(0, "x", epoch, number).normal(size=(8, 4))).float()
        error = (self.layer(x).squeeze(1) - x.sum(1)).square().mean()
        terms = {"total": error, "twice": 2 * error}
        return (terms | {"rare": error * 0 + 7} if number == 0 else terms), 8

    def epoch_steps(self, epoch):
        for number in range(3):
            yield partial(self.step, epoch, number)

    def validate(self):
        return {"score": -float((self.layer.weight - 1).abs().sum().detach())}

    def state(self):
        return {key: value.clone() for key, value in self.layer.state_dict().items()}

    def task(self):
        return Task(
            epoch_steps=self.epoch_steps,
            validate=self.validate,
            state=self.state,
            load_state=self.layer.load_state_dict,
            save_best=lambda: self.best.append(self.state()),
            parameters=list(self.layer.parameters()),
        )

    def fit(self, folder, report=lambda _: None, rate=0.1, compete=False):
        schedule = Schedule(rate, 3 * EPOCHS, warmup_steps=2, cosine=True)
        fitted = fit(
            self.task(), self.optimizer, schedule, folder,
            epochs=EPOCHS, progress=report, clip=1.0, compete=compete,
        )  # fmt: skip
        self.learned = fitted.learned
        return fitted.rows


def without_times(rows):
    measured = ("seconds", "images_per_second", "peak_memory_mb")
    return [{k: v for k, v in r.items() if k not in measured} for r in rows]


def _slowly(folder):
    toy = Toy()
    step = toy.step

    def slow(epoch, number):
        time.sleep(0.01)
        return step(epoch, number)

    toy.step = slow
    toy.fit(folder)


def test_killed_twenty_times_it_ends_as_it_would_have(tmp_path):
    """Kill -9 at random moments, resumed every time: the same weights, bit for bit, and the same log."""
    whole = Toy()
    rows = whole.fit(tmp_path / "whole")
    rng, folder = np.random.default_rng(0), tmp_path / "killed"
    torch.set_num_threads(1)  # a forked child has no threads of its parent
    for _ in range(20):
        child = get_context("fork").Process(target=_slowly, args=(folder,))
        child.start()
        child.join(rng.uniform(0.02, 0.12))
        child.kill()
        child.join()
        read_checkpoint(folder / "checkpoint.pt")  # absent or whole, never unreadable
    last = Toy()
    resumed = last.fit(folder)
    assert without_times(resumed) == without_times(rows)
    for ours, theirs in zip(last.layer.parameters(), whole.layer.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("fail_at", [(1, 0), (2, 0), (3, 2), (5, 1)])
def test_an_interrupted_run_ends_bit_for_bit_as_an_uninterrupted_one(tmp_path, fail_at):
    whole = Toy()
    rows = whole.fit(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        Toy(fail_at).fit(tmp_path / "cut")
    said = []
    resumed = Toy()
    again = resumed.fit(tmp_path / "cut", said.append)
    assert all(torch.equal(resumed.state()[key], value) for key, value in whole.state().items())
    assert without_times(again) == without_times(rows)
    assert without_times(read_metrics(tmp_path / "cut" / "metrics.jsonl")) == without_times(rows)
    assert len(resumed.rates) == 3 * (EPOCHS - fail_at[0] + 1)
    expected = f"resumed after epoch {fail_at[0] - 1}"
    assert (said[0] == expected) == (fail_at[0] > 1)


@pytest.mark.parametrize("moment", ["save_checkpoint", "add"])
def test_a_death_between_two_files_is_mended_by_resuming(tmp_path, monkeypatch, moment):
    from samling.training import log, loop

    whole = Toy()
    rows = whole.fit(tmp_path / "whole")
    owner = loop if moment == "save_checkpoint" else log.MetricsLog
    original, calls = getattr(owner, moment), []

    def dying(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, moment, dying)
        with pytest.raises(KeyboardInterrupt):
            Toy().fit(tmp_path / "cut")
    resumed = Toy()
    assert without_times(resumed.fit(tmp_path / "cut")) == without_times(rows)
    assert all(torch.equal(resumed.state()[key], value) for key, value in whole.state().items())


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = Toy()
    first.fit(tmp_path)
    again = Toy()
    assert [row["epoch"] for row in again.fit(tmp_path)] == [1, 2, 3, 4, 5]
    assert again.rates == []
    assert all(torch.equal(again.state()[key], value) for key, value in first.state().items())


def test_a_damaged_checkpoint_stops_the_run(tmp_path):
    Toy().fit(tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="delete it to start"):
        Toy().fit(tmp_path)


def test_the_best_weights_are_those_of_the_best_score(tmp_path):
    toy = Toy()
    rows = toy.fit(tmp_path)
    scores = [row["val"]["score"] for row in rows]
    assert rows[-1]["best"] == max(scores)
    records = [s for i, s in enumerate(scores) if s > max(scores[:i], default=float("-inf"))]
    assert len(toy.best) == len(records)


def test_training_that_only_harms_keeps_the_weights_of_the_start(tmp_path):
    toy, said = Toy(), []
    torch.nn.init.ones_(toy.layer.weight)  # the answer
    torch.nn.init.constant_(toy.layer.bias, 3.0)  # a reason to move
    before = toy.state()
    toy.fit(tmp_path, said.append, compete=True)
    assert len(toy.best) == 1 and torch.equal(toy.best[0]["weight"], before["weight"])
    assert said[0].startswith("before training: score") and "its weights are kept" in said[-1]
    again = Toy()
    again.fit(tmp_path, said.append, compete=True)
    assert again.best == [] and "its weights are kept" in said[-1], "known after resuming, too"
    assert not toy.learned and not again.learned


def test_training_that_helps_beats_the_start(tmp_path):
    toy, said = Toy(), []
    rows = toy.fit(tmp_path, said.append, compete=True)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert len(toy.best) > 1 and "kept" not in said[-1] and toy.learned


def test_the_row_of_an_epoch(tmp_path):
    rows = Toy().fit(tmp_path)
    assert [row["step"] for row in rows] == [3, 6, 9, 12, 15]
    for row in rows:
        assert row["train"]["twice"] == pytest.approx(2 * row["train"]["total"])
        assert row["train"]["rare"] == pytest.approx(7)  # the mean over the batches that have it
        assert row["images_per_second"] > 0
        assert 50 < row["peak_memory_mb"] < 100_000  # PyTorch alone is more, no test machine has it
        assert row["seconds"] >= 0


def test_how_far_it_is_soon_and_then_every_half_minute(tmp_path, monkeypatch):
    """Fifteen steps of ten seconds each by a clock that only they move."""
    toy, clock, said = Toy(), [0.0], []
    monkeypatch.setattr("samling.training.loop.time.perf_counter", lambda: clock[0])
    step = toy.step

    def ten_seconds(epoch, number):
        clock[0] += 10
        return step(epoch, number)

    toy.step = ten_seconds
    toy.fit(tmp_path, said.append)
    steps = [line for line in said if "step" in line]
    assert [line.split(" of ")[0] for line in steps] == [
        "epoch 1: step 1", "epoch 2: step 4", "epoch 3: step 7", "epoch 4: step 10", "epoch 5: step 13",
    ]  # fmt: skip
    assert steps[0] == "epoch 1: step 1 of 15, 0.8 images/s, 2 min left"


def test_the_optimiser_gets_the_rates_of_the_schedule(tmp_path):
    toy = Toy()
    toy.fit(tmp_path)
    schedule = Schedule(0.1, 15, warmup_steps=2, cosine=True)
    assert toy.rates == [schedule.at(step) for step in range(15)]


def test_a_gradient_that_is_not_finite_stops_the_run(tmp_path):
    toy = Toy()
    toy.layer.weight.data.fill_(float("nan"))
    with pytest.raises(InputError, match="epoch 1, step 0"):
        toy.fit(tmp_path)


def test_gradients_are_clipped(tmp_path):
    layer = torch.nn.Linear(1, 1, bias=False)
    layer.weight.data.zero_()
    task = Task(
        epoch_steps=lambda _: iter([lambda: ({"total": 1000 * layer.weight.sum()}, 1)]),
        validate=lambda: {"score": 0.0},
        state=layer.state_dict,
        load_state=layer.load_state_dict,
        save_best=lambda: None,
        parameters=list(layer.parameters()),
    )
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    fit(task, optimizer, Schedule(0.5, 1), tmp_path, epochs=1, progress=str, clip=1.0)
    assert layer.weight.item() == pytest.approx(-0.5, rel=1e-5)


def test_a_constant_schedule():
    schedule = Schedule(0.3, 10)
    assert [schedule.at(step) for step in (0, 5, 9, 50)] == [0.3] * 4


def test_warm_up_is_linear():
    schedule = Schedule(1.0, 100, warmup_steps=4)
    assert [schedule.at(s) for s in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


@pytest.mark.parametrize("step", [10, 30, 60, 110, 500])
def test_cosine_ends_at_a_hundredth(step):
    done = min(1, (step - 10) / 100)
    expected = 2 * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)
    assert Schedule(2.0, 110, 10, cosine=True).at(step) == pytest.approx(expected, rel=1e-5)


def test_precision_switches_autocast():
    cpu = torch.device("cpu")
    x = torch.ones(2, 2)
    for kind, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        with precision(kind, cpu):
            assert (x @ x).dtype == dtype
    assert best_precision(cpu) in ("bf16", "fp32")
