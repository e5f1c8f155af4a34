"""Recipes: the library loads, mistakes are named with file and field, overrides, round trip."""

import pytest
import yaml

from samling.config import (
    AdaptRecipe,
    DistillRecipe,
    TrainRecipe,
    library,
    load_recipe,
    save_recipe,
)
from samling.errors import InputError


def kind_of(name):
    content = yaml.safe_load(library()[name].read_text(encoding="utf-8"))
    if "network" in content:
        return TrainRecipe
    return DistillRecipe if "embedding" in content else AdaptRecipe


@pytest.mark.parametrize("name", library())
def test_every_recipe_of_the_library_loads_by_name_and_by_path(name):
    kind = kind_of(name)
    recipe = load_recipe(kind, name, [])
    assert recipe == load_recipe(kind, library()[name], [])
    assert recipe.name == name or kind is TrainRecipe  # networks are named as papers write them


@pytest.mark.parametrize("name", library())
def test_a_saved_recipe_is_the_same_recipe(name, tmp_path):
    kind = kind_of(name)
    recipe = load_recipe(kind, name, ["seed=3"])
    path = tmp_path / "config.yaml"
    path.write_text(save_recipe(recipe))
    assert load_recipe(kind, path, []) == recipe
    assert yaml.safe_load(path.read_text())["seed"] == 3


def test_the_library_says_what_the_paper_says():
    recipe = load_recipe(AdaptRecipe, "lg-medseg", [])
    loss, optimiser = recipe.training.loss, recipe.training.optimiser
    assert (loss.focal, loss.dice, loss.mask_iou, loss.boundary) == (20, 1, 1, 2)
    assert (optimiser.kind, optimiser.rate) == ("adam", 5e-4)
    assert (recipe.training.batch_size, recipe.training.epochs) == (16, 15)
    assert (recipe.adapter.rank, recipe.adapter.reduction) == (16, 8)


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("{}", "name"),
        ("name: x\nepochs: 3", "epochs"),
        ("name: x\ntraining: {epochs: many}", "training.epochs"),
        ("name: x\ntraining: {epochs: -1}", "training.epochs"),
        ("name: x\ntraining: {batch_size: 0}", "training.batch_size"),
        ("name: x\ntraining: {optimiser: {rate: 0}}", "training.optimiser.rate"),
        ("name: x\ntraining: {optimiser: {rate: .inf}}", "training.optimiser.rate"),
        ("name: x\ntraining: {loss: {focal: .nan}}", "training.loss.focal"),
        ("name: x\ntraining: {loss: {tversky: 1}}", "training.loss.tversky"),
        ("name: x\ntraining: {prompts: [box, scribble]}", "training.prompts.1"),
        ("name: x\ntraining: {prompts: []}", "training.prompts"),
        ("name: x\nadapter: {kind: dora}", "adapter.kind"),
        ("name: x\nadapter: {rank: 0}", "adapter.rank"),
        ("name: [x]", "name"),
        ("name: x\nseed: -1", "seed"),
    ],
)
def test_mistakes_are_named_with_file_and_field(write, text, field):
    path = write(text)
    with pytest.raises(InputError) as caught:
        load_recipe(AdaptRecipe, path, [])
    assert str(caught.value).startswith(f"{path} {field}: ")


@pytest.mark.parametrize("text", ["", "- a\n- b", "just words"])
def test_a_file_without_settings_is_refused(write, text):
    with pytest.raises(InputError, match=r"mine\.yaml: is not a table of settings"):
        load_recipe(AdaptRecipe, write(text), [])


def test_a_file_that_is_no_yaml_is_refused(write, tmp_path):
    with pytest.raises(InputError, match=r"mine\.yaml: is not YAML"):
        load_recipe(AdaptRecipe, write("name: [x"), [])
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"binary\.yaml: is not YAML"):
        load_recipe(AdaptRecipe, tmp_path / "binary.yaml", [])


def test_an_unknown_recipe_is_refused_with_the_known_ones(tmp_path):
    for name in ("nonsense", tmp_path, tmp_path / "none.yaml"):
        with pytest.raises(
            InputError, match=r"no such recipe.*lg-medseg, light, lora, nnunet, sam-liver"
        ):
            load_recipe(AdaptRecipe, name, [])


def test_overrides_reach_every_depth_and_keep_their_type():
    overrides = [
        "training.epochs=3",
        "training.optimiser.rate=1e-3",
        "training.prompts=[box]",
        "adapter.tied=true",
        "adapter.sites=[attention, 'block:0']",
        "name=mine",
    ]
    recipe = load_recipe(AdaptRecipe, "lg-medseg", overrides)
    assert recipe.training.epochs == 3
    assert recipe.training.optimiser.rate == 1e-3
    assert recipe.training.optimiser.cosine  # what was not named stays
    assert recipe.training.prompts == ("box",)
    assert recipe.adapter.tied
    assert recipe.adapter.sites == ("attention", "block:0")
    assert recipe.name == "mine"


def test_the_last_override_counts():
    recipe = load_recipe(AdaptRecipe, "lg-medseg", ["seed=1", "seed=2"])
    assert recipe.seed == 2


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("training.epochs", "is not key=value"),
        ("=3", "is not key=value"),
        ("name.first=3", "name is not a section"),
        ("training.epochs=[", "not YAML"),
        ("training.epoch=3", "training.epoch"),
        ("nonsense.deep=3", "nonsense"),
        ("training.epochs=", "training.epochs"),
    ],
)
def test_wrong_overrides_are_refused(override, problem):
    with pytest.raises(InputError, match=problem):
        load_recipe(AdaptRecipe, "lg-medseg", [override])


def test_recipes_do_not_change_after_loading():
    recipe = load_recipe(AdaptRecipe, "lg-medseg", [])
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 1


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.epochs=x", ""),
        ("training.prompts=[box,dot]", ""),
        (
            "trainings.epochs=1",
            "trainings.epochs is no setting. Remedy: did you mean training.epochs?",
        ),
        ("training.epoch=1", "training.epoch is no setting. Remedy: did you mean training.epochs?"),
        ("adapter.kind=lroa", "'lroa' is no choice. Remedy: did you mean lora?"),
        (
            "adapter.kind=x",
            "'x' is no choice. Remedy: use one of lr, serial, ch, lora, med2d, none.",
        ),
        (
            "training.rate=1",
            "training.rate is no setting. Remedy: did you mean training.optimiser.",
        ),
        ("rate=1", "rate is no setting. Remedy: did you mean training.optimiser.rate?"),
        ("zzz=1", "zzz is no setting. Remedy: use one of name, seed, "),
    ],
)
def test_a_wrong_override_is_blamed_and_not_the_file(override, said):
    with pytest.raises(InputError) as caught:
        load_recipe(AdaptRecipe, "lg-medseg", ["seed=1", override])
    assert str(caught.value).startswith(f"{override}: {said}")
    assert ".yaml" not in str(caught.value)


def test_the_file_is_blamed_for_its_own_mistakes_whatever_is_overridden(write):
    path = write("name: x\ntraining: {epoch: 3}")
    with pytest.raises(InputError) as caught:
        load_recipe(AdaptRecipe, path, ["training.batch_size=2", "seed=1"])
    said = f"{path} training.epoch: is no setting. Remedy: did you mean training.epochs? Else see"
    assert str(caught.value).startswith(said)


def test_a_setting_of_two_sections_names_both():
    with pytest.raises(InputError, match=r"mean embedding\.epochs or decoder\.epochs\?"):
        load_recipe(DistillRecipe, "light", ["epochs=1"])


def test_the_nearest_recipe_is_suggested():
    with pytest.raises(InputError, match=r"did you mean lg-medseg\? Else see samling recipes\.$"):
        load_recipe(AdaptRecipe, "lg-medsegg", [])
