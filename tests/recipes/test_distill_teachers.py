"""distill: which teachers there are, what they are shown, what is taken over from them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from samling.adapters.injection import save_adapter
from samling.config import AdapterSection, EmbeddingSection
from samling.data.batches import Planes
from samling.distillation.cache import EmbeddingCache
from samling.errors import InputError
from samling.inference.card import Card
from samling.models.sam import Sam
from samling.recipes import embedding_stage
from samling.recipes.build import load_base, new_base, save_base, trainee
from samling.recipes.distill import distill, take_over_decoder
from samling.recipes.embedding_stage import answers_alike, fill_cache
from samling.recipes.supervision import Supervision, supervise

SMALL = [
    "warm_start=false", "embedding.epochs=2", "embedding.batch_size=3", "embedding.flips=false",
    "decoder.epochs=1", "decoder.batch_size=3", "decoder.prompts=[box]", "decoder.precision=fp32",
]  # fmt: skip


def run(store, teacher, out, *more, report=lambda _: None):
    return distill("light", [store], teacher, out, [*SMALL, *more], report=report)


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
                         ("tunes=encoder", "cannot answer.*tunes=both"),
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


def test_a_decoder_is_taken_over_with_skips_of_the_same_widths():
    master, alike, other = Sam("tiny", 64), Sam("tiny", 64), Sam("lean", 64)
    for weight in (*master.skips.parameters(), *master.mask_decoder.parameters()):
        torch.nn.init.normal_(weight)
    for student, same in ((alike, True), (other, False)):
        take_over_decoder(student, master)
        key = "mask_decoder.iou_token.weight"
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


def test_a_teacher_that_sees_through_a_window_is_refused(tiny_run, cache, small_store, tmp_path):
    """A student would be taught what the teacher says of pictures it never sees."""
    run_folder = Path(shutil.copytree(tiny_run, tmp_path / "windowed"))
    card = Card.read(run_folder / "adapter.json")
    card.model_copy(update={"window_hu": (40.0, 400.0)}).save(run_folder / "adapter.json")
    with pytest.raises(InputError, match="window"):
        run(small_store, str(run_folder), tmp_path / "student")
