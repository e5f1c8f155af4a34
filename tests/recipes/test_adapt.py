"""adapt: the files of a run, its reload, a real kill -9, and runs that must not be continued."""

import json
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from samling.config import AdaptRecipe, load_recipe
from samling.data.store import Store
from samling.errors import InputError
from samling.inference.card import Card
from samling.models.contract import PromptTokens
from samling.models.weights import sha256_of_tensors
from samling.prompts.prompt import Token
from samling.recipes import adapt as adapting
from samling.recipes.adapt import adapt
from samling.recipes.build import load_base, load_torch, trainee

SMALL = ["training.epochs=1", "training.batch_size=2", "training.precision=fp32"]


def silent(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def trained(small_store, tmp_path_factory, watching):
    """A finished run of one epoch, and the model as it was in memory at its end."""
    out = tmp_path_factory.mktemp("runs") / "run"
    with watching() as seen:
        assert adapt("lg-medseg", [small_store], out, "untrained", SMALL, report=silent) == out
    return out, seen[0].model


@pytest.fixture
def run(trained, tmp_path):
    """A copy that the test may spoil."""
    return Path(shutil.copytree(trained[0], tmp_path / "run"))


def test_the_files_of_a_run(trained, small_store):
    out, _ = trained
    expected = {
        "config.yaml", "environment.json", "metrics.jsonl", "checkpoint.pt", "curves.png",
        "adapter.safetensors", "adapter.json",
    }  # fmt: skip
    files = {file.name for file in out.iterdir() if file.is_file()} - {".lock"}
    assert files == expected
    assert load_recipe(AdaptRecipe, out / "config.yaml", []).training.epochs == 1
    about = json.loads((out / "environment.json").read_text())
    assert about["data"] == [["small", Store.open(small_store).content_hash]]
    [row] = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert row["epoch"] == 1
    assert row["step"] == 3
    terms = {"total", "focal", "dice", "mask_iou", "boundary", "presence"}
    assert set(row["train"]) == terms
    assert set(row["val"]) == {"box", "point1", "auto", "score"}
    assert np.isfinite([*row["train"].values(), *row["val"].values()]).all()
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_card_says_what_was_trained_on_what(trained, small_store):
    card = Card.read(trained[0] / "adapter.json")
    assert card.prompts == ("box", "points", "automatic", "mask")
    assert card.base == "untrained"
    assert card.base_sha256 == load_base("untrained").sha256
    assert card.trained_on == ("small",)
    assert card.split_hash == Store.open(small_store).splits.hash
    assert card.classes == ("lesion",)
    assert "CC0" in card.licence
    assert card.adapter["rank"] == 16


def test_only_adapter_and_automatic_mode_are_saved(trained):
    state = load_file(trained[0] / "adapter.safetensors")
    own = {key for key in state if key.startswith("adapter.")}
    assert sum(state[key].numel() for key in own) == 69_120  # 4464 · 16, less what the clamp saves
    assert set(state) - own == {
        "model.prompt_encoder.automatic.weight",
        "model.presence.linear.weight",
        "model.presence.linear.bias",
        "model.presence.evidence.weight",
        "model.presence.evidence.bias",
    }
    assert all(value.any() for value in state.values())  # nothing is as it began: zero


@torch.no_grad()
def test_a_loaded_run_computes_what_the_trained_model_computed(trained):
    out, model = trained
    loaded, _ = load_torch(out)
    image = torch.rand((1, 1, 256, 256), generator=torch.Generator().manual_seed(3))
    prompts = PromptTokens(
        torch.tensor([[[[40.0, 50], [150, 160]]]]),
        torch.tensor([[[Token.TOP_LEFT, Token.BOTTOM_RIGHT]]]),
    )
    ours, theirs = loaded.encode(image), model.eval().encode(image)
    assert torch.equal(ours.image, theirs.image)
    assert torch.equal(ours.presence, theirs.presence)
    assert torch.equal(loaded.decode(ours, prompts).masks, model.decode(theirs, prompts).masks)
    base = load_base("untrained").model.encode(image)
    assert not torch.allclose(base.image, ours.image, atol=1e-3)


def test_a_finished_run_stays_as_it_is(run, small_store):
    before = (run / "adapter.safetensors").read_bytes()
    adapt("lg-medseg", [small_store], run, "untrained", SMALL, report=silent)
    assert (run / "adapter.safetensors").read_bytes() == before


@pytest.mark.parametrize("change", ["training.epochs=2", "seed=1", "adapter.rank=4"])
def test_a_run_of_other_settings_is_not_continued(run, small_store, change):
    with pytest.raises(InputError, match="other settings"):
        adapt("lg-medseg", [small_store], run, "untrained", [*SMALL, change], report=silent)


def test_a_run_on_other_data_is_not_continued(run, tiny_store):
    with pytest.raises(InputError, match="other settings, data"):
        adapt("lg-medseg", [tiny_store], run, "untrained", SMALL, report=silent)


def test_an_adapter_of_another_base_is_refused_and_both_are_named(run):
    card = Card.read(run / "adapter.json")
    card.model_copy(update={"base_sha256": "f00d" * 16}).save(run / "adapter.json")
    with pytest.raises(InputError) as caught:
        load_torch(run)
    assert "f00df00df00d" in str(caught.value)
    assert load_base("untrained").sha256[:12] in str(caught.value)


def test_an_adapter_of_other_settings_is_refused(run):
    state = load_file(run / "adapter.safetensors")
    name = sorted(state)[0]
    del state[name]
    save_file(state, run / "adapter.safetensors")
    with pytest.raises(InputError, match=name):
        load_torch(run)


def test_no_epochs_leave_the_base_as_it_is(small_store, tmp_path):
    settings = [*SMALL, "training.epochs=0"]
    out = adapt("lg-medseg", [small_store], tmp_path / "run", "untrained", settings, report=silent)
    image = torch.rand(1, 1, 256, 256)
    with torch.no_grad():
        seen = load_torch(out)[0].encode(image).image
        base = load_base("untrained").model.encode(image).image
    torch.testing.assert_close(seen, base, rtol=1e-3, atol=1e-3)


def test_the_base_is_not_trained(trained):
    _, model = trained
    base = load_base("untrained").model
    frozen = {k: v for k, v in base.mask_decoder.state_dict().items()}
    assert sha256_of_tensors(model.mask_decoder.state_dict()) == sha256_of_tensors(frozen)
    key = "layers.3.blocks.1.mlp.fc1.weight"
    wrapped = model.image_encoder.state_dict()["layers.3.blocks.1.mlp.target.fc1.weight"]
    assert torch.equal(wrapped, base.image_encoder.state_dict()[key])


PROCESS = """
import sys, torch
from pathlib import Path
from samling.recipes.adapt import adapt
torch.set_num_threads(int(sys.argv[3]))
say = lambda line: print(line, flush=True)
adapt("lg-medseg", [Path(sys.argv[1])], Path(sys.argv[2]), "untrained", sys.argv[4:], report=say)
"""


def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(small_store, tmp_path):
    """Kill -9 at a moment that nobody chose; any moment must do."""
    settings = [*SMALL, "training.epochs=2", "training.prompts=[points,automatic]"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    started = time.perf_counter()
    adapt("lg-medseg", [small_store], whole, "untrained", settings, report=silent)
    duration = time.perf_counter() - started
    command = [sys.executable, "-c", PROCESS, small_store, cut, torch.get_num_threads(), *settings]
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().startswith("training")
    moment = random.SystemRandom().uniform(0, duration)
    time.sleep(moment)
    process.kill()
    process.wait()
    reached = (cut / "metrics.jsonl").read_text() if (cut / "metrics.jsonl").exists() else ""
    adapt("lg-medseg", [small_store], cut, "untrained", settings, report=silent)
    about = f"killed after {moment:.2f} s with {reached.count('epoch')} epochs logged"
    for name in ("adapter.safetensors", "adapter.json", "config.yaml"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), about
    rows = [json.loads(line) for line in (cut / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2], about
    ours = torch.load(cut / "checkpoint.pt", weights_only=True)["state"]
    theirs = torch.load(whole / "checkpoint.pt", weights_only=True)["state"]
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs), about
    assert not list(cut.glob(".*.part")) or reached == ""


def test_the_base_competes_where_that_is_fair(small_store):
    settings = load_recipe(AdaptRecipe, "lg-medseg", SMALL)
    stores = [Store.open(small_store)]
    able = load_base("untrained").card.model_copy(
        update={"prompts": ("box", "points", "mask", "automatic")}
    )
    assert adapting._competes(settings, stores, able)
    for unfair in (
        {"prompts": ("box", "points", "automatic")},
        {"trained_on": (stores[0].name,), "split_hash": "another"},
    ):
        assert not adapting._competes(settings, stores, able.model_copy(update=unfair))
    same = {"trained_on": (stores[0].name,), "split_hash": stores[0].splits.hash}
    assert adapting._competes(settings, stores, able.model_copy(update=same))
    none = load_recipe(AdaptRecipe, "lg-medseg", [*SMALL, "training.epochs=0"])
    assert not adapting._competes(none, stores, able)


@pytest.mark.parametrize(
    ("cut", "changes", "words"),
    [
        (-0.25, {}, "weights and mask threshold are the base's"),
        (-1.25, {}, "only the mask threshold differs from the base's"),
        (-1.25, {"clahe": True}, "shown to them in another way"),
    ],
)
def test_what_was_not_learned_is_told(small_store, tmp_path, monkeypatch, cut, changes, words):
    said = []
    base = load_base("untrained")
    shown = base.card.model_copy(
        update={"mask_threshold": -0.25, "fit": "pad", "padding": "black"}
        | {"token_padding": "points"}
        | changes
    )
    monkeypatch.setattr(adapting, "load_base", lambda name: replace(base, card=shown))

    def kept(*arguments, save_best, **others):
        save_best()
        return False

    monkeypatch.setattr(adapting, "run_training", kept)
    monkeypatch.setattr(adapting, "calibrate", lambda *_, start, **__: cut)
    monkeypatch.setattr(adapting, "draw_curves", lambda out: None)
    adapt("lg-medseg", [small_store], tmp_path / "run", "untrained", SMALL, report=said.append)
    assert said[-1].startswith("nothing was learned") and words in said[-1]
    assert Card.read(tmp_path / "run" / "adapter.json").mask_threshold == cut


def test_a_class_that_no_label_shows_is_refused_before_anything_is_written(small_store, tmp_path):
    named = [*SMALL, "classes.names=[lesion,tumour]"]
    with pytest.raises(InputError, match=r"shows no 'tumour'.*classes\.names=\[lesion\]"):
        adapt("lg-medseg", [small_store], tmp_path / "run", "untrained", named, report=silent)
    assert not (tmp_path / "run").exists()


def test_ch_adapters_and_their_stem_are_trained_saved_and_loaded(small_store, tmp_path, watching):
    """The recipe uniultra-small on the light model: what was trained predicts the same after loading."""
    with watching() as seen:
        adapt("uniultra-small", [small_store], tmp_path / "run", "untrained", SMALL, report=silent)
    state = load_file(tmp_path / "run" / "adapter.safetensors")
    stem = "adapter.image_encoder.layers.0.blocks.0.conv.weight"
    edges = [key for key in state if key.startswith("adapter.") and key.endswith(".edge.weight")]
    assert len(edges) == 12
    assert all(state[key].any() for key in edges)
    assert any(key.startswith("model.mask_decoder.") for key in state)
    torch.manual_seed(0)
    fresh = trainee(
        load_base("untrained").model, load_recipe(AdaptRecipe, "uniultra-small", []).adapter
    )
    assert not torch.equal(fresh.state()[stem], state[stem])  # the stem was trained
    loaded, card = load_torch(tmp_path / "run")
    assert card.adapter["kind"] == "ch"
    image = torch.rand(1, 1, 256, 256)
    with torch.no_grad():
        torch.testing.assert_close(
            loaded.encode(image).image, seen[0].model.eval().encode(image).image
        )
