"""distill: from a teacher to a base that loads; resuming; the cache knows its teacher."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from samling.adapters.injection import save_adapter
from samling.config import AdapterSection, DistillRecipe, EmbeddingSection, load_recipe
from samling.data.batches import Planes
from samling.data.store import Store
from samling.distillation.cache import EmbeddingCache
from samling.errors import InputError
from samling.inference.card import Card
from samling.inference.expectation import Calibration
from samling.models.sam import Sam
from samling.models.weights import sha256_of_tensors
from samling.recipes import distill as distill_module
from samling.recipes import embedding_stage
from samling.recipes.build import load_base, load_torch, new_base, save_base, trainee
from samling.recipes.distill import distill, take_over_decoder
from samling.recipes.embedding_stage import answers_alike, fill_cache
from samling.recipes.evaluate import split_part
from samling.recipes.prepare import prepare
from samling.recipes.supervision import Supervision, supervise

SMALL = [
    "warm_start=false", "embedding.epochs=2", "embedding.batch_size=3", "embedding.flips=false",
    "decoder.epochs=1", "decoder.batch_size=3", "decoder.prompts=[box]", "decoder.precision=fp32",
]  # fmt: skip


@pytest.fixture(scope="module")
def teacher(tiny_run, tmp_path_factory):
    """An adapted run that differs from its base."""
    run = Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("teacher") / "run"))
    state = load_file(run / "adapter.safetensors")
    generator = torch.Generator().manual_seed(0)
    for name, value in state.items():
        if name.startswith("adapter."):
            state[name] = value + 0.1 * torch.randn(value.shape, generator=generator)
    save_file(state, run / "adapter.safetensors")
    return str(run)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache folder of these tests' own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAMLING_CACHE", str(folder))
        yield folder


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
    none = ["embedding.epochs=0", "decoder.epochs=0", "decoder_trains_encoder=false"]
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


def test_an_unknown_student_is_an_error(small_store, teacher, cache, tmp_path):
    with pytest.raises(InputError, match=r"huge.*use one of full, light"):
        run(small_store, teacher, tmp_path / "huge", "student=huge")


def test_sam2_learns_from_sam2_level_by_level(small_store, cache, tmp_path):
    """The pyramid's two finer levels have projections of their own."""
    master = new_base("sam2-hiera-mini", warm=False)
    save_base(tmp_path / "teacher", master.model, master.card)
    more = ["student=sam2-hiera-mini", "embedding.levels=0.5", "decoder.epochs=0"]
    out = run(small_store, str(tmp_path / "teacher"), tmp_path / "mini", *more)
    log = (out / "embedding" / "metrics.jsonl").read_text().splitlines()
    assert all(json.loads(line)["train"]["levels"] > 0 for line in log)
    assert load_base(out).model.architecture == "sam2-hiera-mini"


def test_a_teacher_of_another_family_and_size_teaches_the_embedding(
    small_store, cache, tmp_path, monkeypatch
):
    """The student sees 256 px, its teacher 64; their decoders differ, so the student trains its own."""
    card = load_base("untrained").card
    changes = {"architecture": "efficientsam-ti", "input_size": 64, "embedding_size": 4}
    master, folder = Sam("efficientsam-ti", 64).eval(), tmp_path / "teacher"
    folder.mkdir()
    save_base(folder, master, card.model_copy(update=changes | {"name": "vit"}))
    shown, encode = [], Sam.levels

    def recorded(self, images):
        shown.append((self.architecture, images.shape[-1]))
        return encode(self, images)

    monkeypatch.setattr(Sam, "levels", recorded)
    said = []
    out = run(small_store, str(folder), tmp_path / "out", "student=tiny", report=said.append)
    assert (
        "the student keeps its own mask decoder (random weights) and trains it in stage 2" in said
    )
    assert ("efficientsam-ti", 64) in shown and ("efficientsam-ti", 256) not in shown
    assert load_base(out).model.encode(torch.rand(1, 1, 256, 256)).image.shape[-1] == 16
    log = (out / "embedding" / "metrics.jsonl").read_text().splitlines()
    first, second = (json.loads(line)["train"]["total"] for line in log)
    assert second < first
    for setting, why in (("decoder.epochs=0", "cannot answer.*decoder.epochs=4"),
                         ("embedding.epochs=0", "nothing to teach tiny but its embedding")):  # fmt: skip
        with pytest.raises(InputError, match=why):
            run(small_store, str(folder), tmp_path / "none", "student=tiny", setting)
    assert not (tmp_path / "none").exists()


def test_a_decoder_that_chooses_among_three_does_not_answer_for_one_that_does_not():
    student, master = Sam("tiny", 32), Sam("tiny", 32)
    assert answers_alike(student, master)
    master.mask_decoder.best = True
    assert not answers_alike(student, master)


@pytest.fixture(scope="module")
def ch_teacher(tmp_path_factory):
    """An adapted run with CH-Adapters that differ from nothing."""
    folder = tmp_path_factory.mktemp("teacher") / "ch"
    folder.mkdir()
    base, section = load_base("untrained"), AdapterSection(kind="ch", reduction=4)
    run = trainee(base.model, section)
    state = {key: value + 0.05 * torch.randn(value.shape) for key, value in run.state().items()}
    save_adapter(folder / "adapter.safetensors", state)
    settings = section.model_dump(mode="json") | {"train_decoder": False, "train_encoder": False}
    changes = {"adapter": settings, "prompts": ("box",), "fit": "stretch"}
    Card.model_validate(base.card.model_dump() | changes).save(folder / "adapter.json")
    return str(folder)


@pytest.mark.parametrize("form", ["outputs", "parts"])
def test_a_mini_hiera_with_adapters_learns_from_an_adapted_run(
    form, small_store, ch_teacher, cache, tmp_path
):
    """DSKD: the student keeps its adapters, sees images as the teacher does, and loads again."""
    settings = [*SMALL, f"embedding.supervise={form}", "decoder.epochs=0", "seed=3"]
    out = distill("dskd", [small_store], ch_teacher, tmp_path / "mini", settings, report=print)
    log = (out / "embedding" / "metrics.jsonl").read_text().splitlines()
    first, second = (json.loads(line)["train"]["levels"] for line in log)
    assert 0 < second < first
    base = load_base(out)
    assert base.card.fit == "stretch"
    assert base.card.own_adapter["kind"] == "ch"
    assert base.card.adapter is None
    learned = [key for key in base.model.state_dict() if key.endswith("adapter.up.weight")]
    assert len(learned) == 12
    assert all(base.model.state_dict()[key].any() for key in learned)
    [folder] = (cache / "embeddings").glob(f"light-256-stretch-black-*-{form}-hiera-mini")
    assert len(list(folder.iterdir())) == 7


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


class Recorder(torch.nn.Module):
    """A teacher that keeps what it is shown."""

    def __init__(self):
        super().__init__()
        self.weight, self.shown = torch.nn.Parameter(torch.zeros(())), []

    def levels(self, images):
        self.shown.append(images)
        return [torch.zeros(len(images), 256, 2, 2)]


@pytest.mark.parametrize("shares", [1, 3])
def test_a_cached_embedding_is_that_of_its_image(cache, shares):
    """Training, validation and mirrored images, seen by the teacher at twice the student's size."""
    rng = np.random.default_rng(0)
    parts = {"train": 3, "val": 2}
    small = {k: rng.integers(0, 256, (n, 4, 4), dtype=np.uint8) for k, n in parts.items()}
    large = rng.integers(0, 256, (5, 8, 8), dtype=np.uint8)
    pictures = [Planes(x, x, tuple(f"{k}/{i}" for i in range(len(x)))) for k, x in small.items()]
    kept = EmbeddingCache(cache / f"in {shares}", "pooled", 2)
    card = load_base("untrained").card
    for k in range(shares):
        fill_cache(
            kept, (Pooled(), card), Supervision((), False, ()), tuple(pictures),
            sight=lambda row: (large[row], (8, 8)), flips=True,
            share=slice(k, None, shares), report=lambda _: None,
        )  # fmt: skip
    planes = np.concatenate([small["train"], small["val"], small["train"][:, :, ::-1]])
    views = np.concatenate([large, large[:3, :, ::-1]])
    for plane, view in zip(planes, views, strict=True):
        means = view.reshape(2, 4, 2, 4).mean(axis=(1, 3)) / 255
        np.testing.assert_allclose(kept.read(plane)[0], means, atol=1e-3)


class Pooled(torch.nn.Module):
    """A teacher whose embedding is the mean of each quarter."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def levels(self, images):
        return [torch.nn.functional.adaptive_avg_pool2d(images, 2).expand(-1, 256, -1, -1)]


@pytest.mark.parametrize("known", [("box",), ("box", "points")])
def test_the_teachers_decoder_is_asked_by_what_it_knows(
    known, small_store, teacher, cache, tmp_path, monkeypatch
):
    folder = Path(shutil.copytree(teacher, tmp_path / "teacher"))
    card = Card.read(folder / "adapter.json")
    card.model_copy(update={"prompts": (*known, "automatic")}).save(folder / "adapter.json")
    asked, terms_of = set(), embedding_stage.prompted_terms

    def recorded(model, shown, masks, kind, *more):
        asked.add(kind)
        return terms_of(model, shown, masks, kind, *more)

    monkeypatch.setattr(embedding_stage, "prompted_terms", recorded)
    more = ["embedding.masks=0.1", "embedding.epochs=4", "decoder.epochs=0"]
    run(small_store, str(folder), tmp_path / "out", *more)
    assert asked == set(known)


def test_a_teacher_is_shown_its_own_padding(cache):
    """Padding at the right and below; mirrored images are padded at the other side."""
    images = np.full((1, 4, 4), 255, np.uint8)
    train = Planes(images, images, ("a/1",), inner=np.array([[4, 3]]))
    val = Planes(images, images, ("a/2",), inner=np.array([[2, 4]]))
    for padding, wanted in (("mean", -1.0), ("black", 1.0)):
        master, card = Recorder(), load_base("untrained").card
        card = card.model_copy(update={"padding": padding, "name": padding})
        kept = EmbeddingCache(cache / padding, "recorder", 2)
        kept.read = lambda plane: None  # the three planes are alike
        fill_cache(
            kept, (master, card), Supervision((), False, ()), (train, val),
            flips=True, report=lambda _: None,
        )  # fmt: skip
        seen = {tuple(map(tuple, image[0, 0].tolist())) for image in master.shown}
        one, other = 1.0, wanted
        assert seen == {
            ((one, one, one, other),) * 4,
            ((one,) * 4,) * 2 + ((other,) * 4,) * 2,
            ((other, one, one, one),) * 4,
        }


def test_a_decoder_is_taken_over_with_what_it_adds_to_its_image():
    """Of another encoder, too: skips belong to the encoder's widths, the box map does not."""
    master, alike, other = Sam("tiny", 64), Sam("tiny", 64), Sam("lean", 64)
    for weight in (*master.skips.parameters(), *master.box_map.parameters()):
        torch.nn.init.normal_(weight)
    for student, same in ((alike, True), (other, False)):
        take_over_decoder(student, master)
        key = "box_map.levels.0.weight"
        assert torch.equal(student.state_dict()[key], master.state_dict()[key])
        assert any(weight.any() for weight in student.skips.parameters()) is same


def test_a_teacher_that_does_not_suit_the_student_is_refused(small_store, teacher, cache, tmp_path):
    out = tmp_path / "mini"
    asked = ["student=sam2-hiera-mini", "embedding.masks=0.5"]
    with pytest.raises(InputError, match="answers otherwise than sam2-hiera-mini's.*masks=0"):
        run(small_store, teacher, out, *asked)
    with pytest.raises(InputError, match="untrained: knows neither box nor points.*masks=0"):
        run(small_store, "untrained", out, "embedding.masks=0.5")
    parts = ["embedding.levels=1", "embedding.supervise=parts"]
    with pytest.raises(InputError, match="light has no adapter at the end of stage 0"):
        run(small_store, teacher, out, *parts)
    assert not out.exists()  # so that the run may be repeated there with other settings
    vit = Sam("efficientsam-ti", 32)
    with pytest.raises(InputError, match=r"stages of strides \(\).*do not pair"):
        supervise(Sam("tiny", 32), vit, EmbeddingSection(levels=1.0))


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
    with pytest.raises(InputError, match=r"no labelled image to draw prompts.*embedding\.masks=0\."):
        run(unlabelled, teacher, tmp_path / "refused", "decoder.epochs=0", "embedding.masks=0.5")
    assert not (tmp_path / "refused").exists()  # known before a minute of work


def test_a_teacher_that_sees_through_a_window_is_refused(tiny_run, cache, small_store, tmp_path):
    """A student would be taught what the teacher says of pictures it never sees."""
    run_folder = Path(shutil.copytree(tiny_run, tmp_path / "windowed"))
    card = Card.read(run_folder / "adapter.json")
    card.model_copy(update={"window_hu": (40.0, 400.0)}).save(run_folder / "adapter.json")
    with pytest.raises(InputError, match="window"):
        run(small_store, str(run_folder), tmp_path / "student")


def test_unlabelled_images_alone_cannot_be_measured(unlabelled):
    with pytest.raises(InputError, match="no labelled image"):
        split_part(Store.open(unlabelled), "val", unlabelled)
