"""Prompted training on a small model: learns, leaves the base alone, calibrates."""

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from samling.config import AdapterSection, TrainingSection
from samling.data.batches import Planes
from samling.data.splits import Splits
from samling.data.store import Store, write_store
from samling.errors import InputError
from samling.models.sam import Sam
from samling.recipes import prompted_training
from samling.recipes.build import trainee
from samling.recipes.prompted_training import (
    calibrate,
    read_training,
    run_training,
    trained_prompts,
)
from samling.training.loop import Fitted

SIDE = 64


def planes(count=6, empty=()):
    """A bright rectangle on noise, each somewhere else; none where `empty`."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (count, SIDE, SIDE)).astype(np.uint8)
    labels = np.zeros_like(images)
    for index in range(count):
        if index not in empty:
            y, x = rng.integers(2, 30, 2)
            labels[index, y : y + 24, x : x + 30] = 1
    return Planes(images + labels * 150, labels, tuple(map(str, range(count))))


def settings(**changes):
    small = {"epochs": 1, "batch_size": 3, "precision": "fp32"}
    return TrainingSection.model_validate(small | changes)


def start(**flags):
    torch.manual_seed(2)
    model = Sam("light", SIDE)
    for embedding in (model.mask_decoder.iou_token, model.mask_decoder.mask_tokens):
        torch.nn.init.normal_(embedding.weight, std=0.5)
    return trainee(model.eval(), AdapterSection(), **flags)


def train(made, section, folder, **parts):
    saved = []
    run_training(
        made, section, (parts.get("train", planes()), parts.get("val", planes(2))), folder,
        seed=0, report=lambda _: None, save_best=lambda: saved.append(made.state()),
    )  # fmt: skip
    rows = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(row) for row in rows], saved


def test_training_changes_what_is_trained_and_nothing_else(tmp_path):
    made = start()
    own = {id(p) for p in made.parameters()}
    frozen = {
        name: value.clone()
        for name, value in made.model.state_dict(keep_vars=True).items()
        if id(value) not in own
    }
    before = made.state()
    rows, saved = train(made, settings(), tmp_path)
    after = made.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in frozen.items())
    trained = made.state()
    assert all(not torch.equal(trained[key], value) for key, value in before.items())
    assert len(saved) == 1
    assert rows[0]["step"] == 2
    assert not made.model.training


def test_training_learns(tmp_path):
    section = settings(epochs=4, prompts=["box"], optimiser={"rate": 0.002})
    rows, _ = train(start(train_decoder=True), section, tmp_path)
    losses = [row["train"]["total"] for row in rows]
    assert losses[-1] < 0.8 * losses[0]


def test_a_batch_without_objects_is_no_error_and_no_lesson(tmp_path):
    nothing = planes(4, empty=range(4))
    made = start()
    before = made.state()
    section = settings(prompts=["box", "points"], batch_size=2)
    rows, _ = train(made, section, tmp_path, train=nothing)
    assert rows[0]["train"] == {"total": 0.0}
    after = made.state()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_terms_are_means_over_prompt_kinds(tmp_path):
    one = settings(loss={"focal": 0, "dice": 1, "mask_iou": 0, "boundary": 0, "presence": 0})
    rows, _ = train(start(), one, tmp_path)
    row = rows[0]["train"]
    assert set(row) == {"dice", "total"}
    assert row["total"] == pytest.approx(row["dice"])


def test_a_kind_named_twice_counts_twice(tmp_path):
    def dice(*kinds: str) -> float:
        alone = {"focal": 0, "dice": 1, "mask_iou": 0, "boundary": 0, "presence": 0}
        section = settings(prompts=list(kinds), loss=alone, batch_size=8)
        rows, _ = train(start(), section, tmp_path / "-".join(kinds))
        assert rows[0]["step"] == 1
        return rows[0]["train"]["dice"]

    without, box = dice("automatic"), dice("box")
    assert dice("automatic", "automatic", "box") == pytest.approx((2 * without + box) / 3)
    assert without != pytest.approx(box)
    assert trained_prompts(("box", "box", "points")) == ("box", "points", "mask")
    assert trained_prompts(("box", "automatic")) == ("box", "automatic")
    assert trained_prompts(("clicks", "automatic")) == ("box", "points", "automatic", "mask")


def test_what_labels_say_of_organs_counts_only_where_nothing_was_made_up(tmp_path, monkeypatch):
    seen = []

    def terms(model, embedding, labels, prompts, loss, rng, answers, known):
        seen.append((labels, known))
        return {}

    monkeypatch.setattr(prompted_training, "prompted_terms", terms)
    still = {"rotation_degrees": 0, "flip": False, "crop": 1, "enlarge": 1, "gain": 0}
    section = settings(augment=still | {"blob_chance": 0.5}, batch_size=16, prompts=["box"])
    data = planes(16)
    data.labels[data.labels > 0] = 2  # made-up objects are 1
    train(start(), section, tmp_path, train=data)
    labels, known = seen[0]
    of_an_organ = (labels == 2).any(2).any(1)
    assert 2 < of_an_organ.sum() < 14
    assert torch.equal(known[:, 0], of_an_organ)


def test_pictures_of_nothing_teach_automatic_mode_of_every_class(tmp_path, monkeypatch):
    seen = []

    def terms(model, embedding, labels, prompts, loss, rng, answers, known):
        seen.append((labels, known))
        return {}

    monkeypatch.setattr(prompted_training, "prompted_terms", terms)
    section = settings(augment={"nothing_chance": 0.5}, batch_size=16, prompts=["automatic"])
    data = planes(16)
    monkeypatch.setattr(type(data), "knows", lambda *_: torch.zeros(16, 1, dtype=torch.bool))
    train(start(), section, tmp_path, train=data)
    labels, known = seen[0]
    assert 2 < known.sum() < 14 and not labels[known[:, 0]].any()
    with pytest.raises(ValidationError, match="nothing_chance teaches automatic"):
        settings(prompts=["box"], augment={"nothing_chance": 0.1})


def test_made_up_objects_need_someone_who_points_at_them():
    with pytest.raises(ValidationError, match="blob_chance teaches box, points"):
        settings(prompts=["automatic"], augment={"blob_chance": 0.1})
    settings(prompts=["automatic", "points"], augment={"blob_chance": 0.1})


def test_a_closer_look_is_not_trained_with_clicks_on_the_whole_image():
    with pytest.raises(ValidationError, match="leave zoom or clicks"):
        settings(prompts=["box", "clicks"], zoom=3)


def test_calibration_chooses_a_threshold_and_changes_no_weight(tmp_path):
    made, said = start(train_decoder=True), []
    train(made, settings(prompts=["box"]), tmp_path)
    before = made.state()
    threshold = calibrate(made, settings(prompts=["box"]), planes(20), seed=0, report=said.append)
    assert -2 <= threshold <= 2
    assert said[0].startswith(f"mask threshold {threshold:+.2f}")
    assert all(torch.equal(made.state()[key], value) for key, value in before.items())


def test_few_images_choose_no_threshold():
    said = []
    cut = calibrate(start(), settings(), planes(19), seed=0, report=said.append, start=-0.25)
    assert cut == -0.25
    assert "-0.25, as at the start" in said[0] and "19 labelled validation images" in said[0]


@pytest.mark.parametrize(("best", "beyond"), [(-2.0, True), (2.0, True), (1.75, False)])
def test_the_end_of_the_range_of_thresholds_is_told(monkeypatch, best, beyond):
    said = []
    monkeypatch.setattr(prompted_training, "best_threshold", lambda *_: (best, 0.5, 0.6))
    assert calibrate(start(), settings(), planes(20), seed=0, report=said.append) == best
    assert ("end of the range" in said[0]) == beyond


@pytest.mark.parametrize("dice", [0.1, 0.6])
def test_a_model_that_finds_hardly_anything_is_said_to_be_useless(monkeypatch, tmp_path, dice):
    said = []
    rows = [{"val": {"box": 0.9, "auto": of, "score": of}} for of in (0.05, dice)]
    monkeypatch.setattr(prompted_training, "fit", lambda *_, **__: Fitted(rows, True))
    run_training(
        start(), settings(), (planes(), planes(2)), tmp_path,
        seed=0, report=said.append, save_best=lambda: None,
    )  # fmt: skip
    assert any("mean Dice, auto 0.10" in line for line in said) == (dice == 0.1)


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_the_optimiser_of_the_recipe_is_used(tmp_path, monkeypatch, kind):
    made = []
    for name in ("Adam", "AdamW"):
        original = getattr(torch.optim, name)
        monkeypatch.setattr(
            torch.optim, name, lambda *a, o=original, n=name, **k: made.append(n) or o(*a, **k)
        )
    train(start(), settings(epochs=0, optimiser={"kind": kind}), tmp_path)
    assert made == [{"adam": "Adam", "adamw": "AdamW"}[kind]]


def test_training_needs_cases_of_both_kinds(small_store, tmp_path):
    store = Store.open(small_store)
    train_part, val_part = read_training([store, store], 32)
    assert (len(train_part), len(val_part)) == (10, 4)
    ids = {"train": list(store.splits.train.ids), "val": [], "test": []}
    cases = [store.case(case_id) for case_id in ids["train"]]
    path = tmp_path / "noval.h5"
    write_store(path, cases, Splits.of(ids), name="x", classes=("lesion",), licence="CC0")
    with pytest.raises(InputError, match=r"noval\.h5: has no training or no validation case"):
        read_training([Store.open(path)], 32)
