"""distill: from a teacher to a base that loads; resuming; the cache knows its teacher."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from samling.config import AdapterSection, DistillRecipe, load_recipe
from samling.data.store import Store
from samling.errors import InputError
from samling.inference.card import Card
from samling.inference.expectation import Calibration
from samling.models.weights import sha256_of_tensors
from samling.recipes import distill as distill_module
from samling.recipes.build import load_base, load_torch, save_base, trainee
from samling.recipes.distill import distill
from samling.recipes.evaluate import split_part
from samling.recipes.prepare import prepare

SMALL = [
    "warm_start=false", "embedding.epochs=2", "embedding.batch_size=3", "embedding.flips=false",
    "decoder.epochs=1", "decoder.batch_size=3", "decoder.prompts=[box]", "decoder.precision=fp32",
]  # fmt: skip


def run(store, teacher, out, *more, report=lambda _: None):
    return distill("light", [store], teacher, out, [*SMALL, *more], report=report)


@pytest.fixture(scope="module")
def distilled(small_store, teacher, cache, tmp_path_factory):
    return run(small_store, teacher, tmp_path_factory.mktemp("distill") / "light")


def test_the_result_is_a_base(distilled):
    base = load_base(distilled)
    assert base.card.name == "light"
    assert base.card.base == str(distilled)
    assert base.card.prompts == ("box",)
    assert base.card.trained_on == ("small",)
    assert base.sha256 == sha256_of_tensors(base.model.state_dict())
    model, card = load_torch(distilled)
    assert card == base.card
    assert model.encode(torch.rand(1, 1, 256, 256)).image.shape == (1, 256, 16, 16)
    assert (distilled / "curves.png").is_file()


def test_the_student_comes_closer_to_the_teacher(distilled, teacher, cache):
    rows = [
        json.loads(line)
        for line in (distilled / "embedding" / "metrics.jsonl").read_text().splitlines()
    ]
    assert rows[1]["train"]["total"] < rows[0]["train"]["total"]
    assert set(rows[0]["train"]) == {"mse", "cosine", "total"}
    assert -1 <= rows[0]["val"]["score"] <= 1


def test_the_cache_belongs_to_the_adapted_teacher_and_not_to_its_base(distilled, teacher, cache):
    whole = sha256_of_tensors(load_torch(teacher)[0].state_dict())
    [folder] = (cache / "embeddings").iterdir()
    assert folder.name == f"light-256-pad-black-{whole[:16]}-16"
    assert not whole.startswith(Card.read(Path(teacher) / "adapter.json").base_sha256[:16])
    assert len(list(folder.iterdir())) == 7  # five training and two validation images


def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    distilled, small_store, teacher, cache, tmp_path
):
    def dying(line):
        if line.startswith("epoch 1/2"):  # the first stage
            raise KeyboardInterrupt

    out = tmp_path / "light"
    with pytest.raises(KeyboardInterrupt):
        run(small_store, teacher, out, report=dying)
    assert not (out / "base.json").exists()
    run(small_store, teacher, out)
    ours, theirs = (folder / "base.safetensors" for folder in (out, distilled))
    assert ours.read_bytes() == theirs.read_bytes()


def test_every_term_is_logged_and_resumes(small_store, teacher, cache, tmp_path):
    """Deep supervision and masks in stage 1: killed after an epoch, it ends as if it had not been."""
    more = ["embedding.levels=0.5", "embedding.masks=0.1", "embedding.flips=true"]
    more += ["decoder.epochs=0", "student=tiny"]

    def dying(line):
        if line.startswith("epoch 1/2"):
            raise KeyboardInterrupt

    whole = run(small_store, teacher, tmp_path / "whole", *more)
    with pytest.raises(KeyboardInterrupt):
        run(small_store, teacher, tmp_path / "killed", *more, report=dying)
    killed = run(small_store, teacher, tmp_path / "killed", *more)
    log = (whole / "embedding" / "metrics.jsonl").read_text().splitlines()
    means = json.loads(log[0])["train"]
    loss = load_recipe(DistillRecipe, "light", []).decoder.loss.model_dump(
        exclude={"boundary_form"}
    )
    parts = {name: means.pop(f"masks_{name}") for name in loss if f"masks_{name}" in means}
    assert means["masks"] == pytest.approx(sum(loss[k] * v for k, v in parts.items()), rel=1e-4)
    assert {"focal", "dice"} <= set(parts)
    assert set(means) == {"mse", "cosine", "levels", "masks", "total"}
    expected = means["mse"] + means["cosine"] + 0.5 * means["levels"] + 0.1 * means["masks"]
    assert means["total"] == pytest.approx(expected, rel=1e-4)
    assert json.loads(log[1])["train"]["levels"] < means["levels"]
    ours, theirs = (folder / "base.safetensors" for folder in (killed, whole))
    assert ours.read_bytes() == theirs.read_bytes()


def test_a_finished_run_asks_no_teacher_and_keeps_its_calibration(
    distilled, small_store, teacher, cache, tmp_path, monkeypatch
):
    out = Path(shutil.copytree(distilled, tmp_path / "light"))
    known = Calibration(level=0.9, temperature=1.0, store="s", split_hash="h", curves={})
    card = Card.read(out / "base.json").model_copy(update={"calibration": known})
    card.save(out / "base.json")

    def asked(*_args, **_more):
        raise AssertionError("the teacher was asked")

    monkeypatch.setattr(distill_module, "fill_cache", asked)
    run(small_store, teacher, out)
    assert Card.read(out / "base.json") == card
    model = load_base(out).model
    save_base(out, model, card.model_copy(update={"calibration": None, "mask_threshold": 0.7}))
    assert (
        Card.read(out / "base.json").calibration is None
    )  # it was measured with another threshold
    card.save(out / "base.json")
    model.presence.linear.bias.data += 1
    save_base(out, model, card.model_copy(update={"calibration": None}))
    assert Card.read(out / "base.json").calibration is None  # and with other weights


def test_another_teacher_is_not_the_same_run(distilled, small_store, tiny_run, cache):
    with pytest.raises(InputError, match="other settings, data or base"):
        run(small_store, str(tiny_run), distilled)


def test_a_student_with_a_frozen_encoder_loads_too(small_store, teacher, cache, tmp_path):
    """Also without any epoch: then the student is what it started from."""
    none = ["embedding.epochs=0", "decoder.epochs=0", "tunes=decoder"]
    out = run(small_store, teacher, tmp_path / "light", *none)
    made, begun = load_base(out).model, load_base("untrained").model
    images = torch.rand(2, 1, 256, 256)
    with torch.no_grad():  # batch norms are folded: the same up to rounding
        torch.testing.assert_close(
            made.encode(images).image, begun.encode(images).image, rtol=1e-3, atol=1e-4
        )
    own, taught = begun.state_dict(), load_torch(teacher)[0].state_dict()
    for key, value in made.state_dict().items():
        if key.startswith(("mask_decoder.", "prompt_encoder.")):  # the teacher's are taken over
            assert torch.equal(value, taught[key]), key
        elif not key.startswith("image_encoder."):
            assert torch.equal(value, own[key]), key


def test_the_student_is_the_one_that_was_asked_for(small_store, teacher, cache, tmp_path):
    none = ["embedding.epochs=0", "decoder.epochs=0", "student=tiny"]
    base = load_base(run(small_store, teacher, tmp_path / "tiny", *none))
    assert base.card.architecture == base.model.architecture == "tiny"
    assert len(base.model.skips) == 2


def test_an_encoder_may_be_tuned_alone_for_the_teachers_decoder(
    distilled, small_store, cache, tmp_path
):
    """Its skips, zero at first, are tuned with it; the teacher's sets are not named twice."""
    asked = [
        "student=tiny",
        "embedding.epochs=1",
        "tunes=encoder",
        "decoder.prompts=[box,automatic]",
    ]
    made = load_base(run(small_store, str(distilled), tmp_path / "tiny", *asked))
    taught, teacher = load_base(distilled).model.state_dict(), Card.read(distilled / "base.json")
    for key, value in made.model.state_dict().items():
        if key.startswith(("mask_decoder.", "prompt_encoder.")) and ".automatic." not in key:
            assert torch.equal(value, taught[key]), key
        if key.startswith("skips.") and key.endswith("weight"):
            assert value.any(), key
    assert not torch.equal(
        made.model.prompt_encoder.automatic.weight, taught["prompt_encoder.automatic.weight"]
    )
    assert made.card.trained_on == teacher.trained_on == ("small",)
    assert made.card.split_hash == teacher.split_hash


def test_an_unknown_student_is_an_error(small_store, teacher, cache, tmp_path):
    with pytest.raises(InputError, match=r"huge.*use one of full, light"):
        run(small_store, teacher, tmp_path / "huge", "student=huge")


def test_a_base_with_adapters_of_its_own_is_adapted_as_any_other(tmp_path):
    student = distill_module._student(load_recipe(DistillRecipe, "dskd", []))
    save_base(tmp_path, student.model, student.card)
    model = load_base(tmp_path).model
    images = torch.rand(1, 1, 256, 256)
    with torch.no_grad():
        before = model.encode(images).image
        torch.testing.assert_close(student.model.encode(images).image, before)
        trainee(model, AdapterSection(kind="serial", sites=("mlp",)))
        torch.testing.assert_close(model.encode(images).image, before)


def test_altered_or_missing_weights_are_refused(distilled, tmp_path):
    folder = Path(shutil.copytree(distilled, tmp_path / "light"))
    state = load_file(folder / "base.safetensors")
    state["presence.linear.bias"] += 1
    save_file(state, folder / "base.safetensors")
    with pytest.raises(InputError, match="was altered"):
        load_base(folder)
    (folder / "base.safetensors").unlink()
    with pytest.raises(InputError, match="missing"):
        load_base(folder)


@pytest.fixture(scope="module")
def unlabelled(phantom_folder, tmp_path_factory):
    """A store of images that nobody has labelled."""
    root = tmp_path_factory.mktemp("unlabelled")
    shutil.copytree(phantom_folder / "images", root / "scans" / "images")
    prepare(root / "scans", root / "scans.h5", "unlabelled")
    return root / "scans.h5"


def test_images_without_labels_serve_the_first_stage_alone(
    unlabelled, small_store, teacher, cache, tmp_path
):
    store = Store.open(unlabelled)
    assert store.case(store.ids[0]).labels is None
    said = []
    both = [small_store, unlabelled]
    distill("light", both, teacher, tmp_path / "both", SMALL, report=said.append)
    labelled = len(Store.open(small_store).splits.train.ids)
    assert any(line.startswith(f"{labelled} training") for line in said)
    whole = sum(len(Store.open(path).splits.train.ids) for path in both)
    rows = (tmp_path / "both" / "embedding" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(rows[0])["step"] == -(-whole // 3)
    run(unlabelled, teacher, tmp_path / "alone", "decoder.epochs=0")
    with pytest.raises(InputError, match=r"no labelled image to tune on.*decoder\.epochs=0"):
        run(unlabelled, teacher, tmp_path / "refused")
    with pytest.raises(
        InputError, match=r"no labelled image to draw prompts.*embedding\.masks=0\."
    ):
        run(unlabelled, teacher, tmp_path / "refused", "decoder.epochs=0", "embedding.masks=0.5")
    assert not (tmp_path / "refused").exists()  # known before a minute of work


def test_unlabelled_images_alone_cannot_be_measured(unlabelled):
    with pytest.raises(InputError, match="no labelled image"):
        split_part(Store.open(unlabelled), "val", unlabelled)
