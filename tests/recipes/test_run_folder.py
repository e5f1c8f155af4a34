"""The run folder: written first, checked when resuming."""

import json
from contextlib import nullcontext

import pytest

from samling.config import AdaptRecipe, load_recipe
from samling.data.store import Store
from samling.errors import InputError
from samling.inference.card import Card
from samling.recipes.run_folder import draw_curves, epochs_of, open_run

BASE = Card(name="b", base="b", base_sha256="1" * 64, embedding_size=16, prompts=("box",))


@pytest.fixture
def settings():
    return load_recipe(AdaptRecipe, "lg-medseg", [])


@pytest.fixture
def store(small_store):
    return Store.open(small_store)


def test_a_new_run_says_what_it_is(tmp_path, settings, store):
    open_run(tmp_path / "run", settings, [store], BASE)
    assert load_recipe(AdaptRecipe, tmp_path / "run" / "config.yaml", []) == settings
    about = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert about["data"] == [["small", store.content_hash]]
    assert (about["base"], about["base_sha256"]) == ("b", "1" * 64)
    assert about["versions"]["torch"]


def test_the_same_run_may_go_on_with_other_versions(tmp_path, settings, store):
    open_run(tmp_path, settings, [store], BASE)
    about = json.loads((tmp_path / "environment.json").read_text())
    about["versions"]["torch"] = "older"
    (tmp_path / "environment.json").write_text(json.dumps(about))
    open_run(tmp_path, settings, [store], BASE)
    assert json.loads((tmp_path / "environment.json").read_text())["versions"]["torch"] == "older"


def test_other_settings_data_or_base_are_refused(tmp_path, settings, store, tiny_store):
    open_run(tmp_path, settings, [store], BASE)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    other_settings = load_recipe(AdaptRecipe, "lg-medseg", ["seed=1"])
    same_name = Store.open(tiny_store)
    same_name.name = "small"
    deeper = load_recipe(AdaptRecipe, "lg-medseg", ["training.optimiser.rate=0.1"])
    other_base = BASE.model_copy(update={"base_sha256": "2" * 64})
    for arguments, other in (
        ((other_settings, [store], BASE), "seed is 0 there, 1 here"),
        ((deeper, [store], BASE), "training.optimiser.rate is 0.0005 there, 0.1 here"),
        ((settings, [Store.open(tiny_store)], BASE), "trained on small there, tiny here"),
        (
            (settings, [store, Store.open(tiny_store)], BASE),
            "trained on small there, small, tiny here",
        ),
        ((settings, [same_name], BASE), "trained on small there, small with other images"),
        ((settings, [store], BASE.model_copy(update={"name": "c"})), "its base is b there, c here"),
        ((settings, [store], other_base), "its base, b, has other weights here"),
    ):
        with pytest.raises(
            InputError, match=r"other settings, data or base.*choose another --out"
        ) as e:
            open_run(tmp_path, *arguments)
        assert f"({other}" in str(e.value)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_run_that_was_trained_without_the_clahe_it_asked_for_is_not_gone_on_with(
    tmp_path, settings, store
):
    open_run(tmp_path, settings, [store], BASE)
    told = BASE.model_dump() | {"schema_version": 1}
    for clahe, refused in ((None, False), (2.0, True)):
        (tmp_path / "adapter.json").write_text(json.dumps(told | {"clahe": clahe}))
        with pytest.raises(InputError, match="adapter.json: was") if refused else nullcontext():
            open_run(tmp_path, settings, [store], BASE)


def test_a_run_of_before_names_what_it_did_not_know(tmp_path, settings, store):
    open_run(tmp_path, settings, [store], BASE)
    config = tmp_path / "config.yaml"
    whole = config.read_text()
    for changed, said in (
        (whole.replace("groups: null\n", ""), "groups is not known there, None here"),
        (whole + "# by hand\n", "written by another version of samling"),
        ("name: [", "its config.yaml cannot be read"),
    ):
        assert changed != whole
        config.write_text(changed)
        with pytest.raises(InputError, match=said):
            open_run(tmp_path, settings, [store], BASE)


def test_a_folder_that_died_half_written_is_begun_again(tmp_path, settings, store):
    open_run(tmp_path, settings, [store], BASE)
    (tmp_path / "config.yaml").unlink()
    open_run(tmp_path, settings, [store], BASE)
    assert load_recipe(AdaptRecipe, tmp_path / "config.yaml", []) == settings


def test_curves_are_drawn_from_the_metrics(tmp_path):
    row = {"epoch": 1, "train": {"total": 1.0}, "val": {"box": 0.5, "score": 0.5}}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    draw_curves(tmp_path)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_how_far_a_run_has_come(tmp_path, settings, store):
    assert epochs_of(tmp_path) is None
    open_run(tmp_path, settings, [store], BASE)
    assert epochs_of(tmp_path) is None  # nobody can tell
    (tmp_path / "metrics.jsonl").write_text("")
    assert epochs_of(tmp_path) == (0, settings.training.epochs)
    rows = [{"epoch": 1}, {"epoch": 2}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert epochs_of(tmp_path) == (2, settings.training.epochs)
    (tmp_path / "metrics.jsonl").write_text("half a li")
    assert epochs_of(tmp_path) is None
    (tmp_path / "config.yaml").write_text("name: a distilled base\n")
    assert epochs_of(tmp_path) is None
