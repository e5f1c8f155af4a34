"""The list of recipes is complete and short; a printed recipe is the recipe, with every setting."""

import pytest
import yaml

from samling import cli
from samling.config import AdaptRecipe, library, load_recipe, save_recipe, settings_of
from samling.errors import InputError
from samling.recipes.catalogue import kind_of, listing, purpose, show


def test_every_recipe_is_listed_once_under_its_verb():
    lines = listing().splitlines()
    assert sorted(line.split()[0] for line in lines if line.startswith("  ")) == sorted(library())
    verb = {}
    for line in lines:
        if line.startswith("samling"):
            heading = line.split()[1]
        elif line.strip():
            verb[line.split()[0]] = heading
    assert (verb["lora"], verb["dskd"], verb["unet"]) == ("adapt:", "distill:", "train:")


@pytest.mark.parametrize("name", library())
def test_the_first_comment_stands_alone(name):
    assert 10 < len(purpose(library()[name])) < 135
    assert purpose(library()[name]).endswith(".")


@pytest.mark.parametrize("name", ["lg-medseg", "dskd", "unet++", "sam-liver"])
def test_a_printed_recipe_is_the_same_recipe(name, tmp_path):
    text = show(name)
    assert text.startswith(library()[name].read_text(encoding="utf-8").rstrip())
    copy = tmp_path / "mine.yaml"
    copy.write_text(text, encoding="utf-8")
    kind = kind_of(yaml.safe_load(text))
    assert load_recipe(kind, copy, []) == load_recipe(kind, name, [])
    assert show(copy).startswith(text.partition("# Further")[0].rstrip())


def test_what_a_recipe_leaves_alone_can_be_given_on_the_command_line():
    """Every further setting, given as printed, changes nothing; with those in the file they are all."""
    further = show("lg-medseg").partition("# Further")[2].splitlines()[1:]
    given = [line.removeprefix("#").partition("   # ")[0].strip() for line in further]
    plain = load_recipe(AdaptRecipe, "lg-medseg", [])
    assert load_recipe(AdaptRecipe, "lg-medseg", given) == plain
    assert "training.zoom=null" in given
    assert "training.epochs=15" not in given
    assert {line.partition("=")[0] for line in given} < set(settings_of(AdaptRecipe))
    assert "epochs: 15" in save_recipe(plain)


def test_the_verb_prints_them(capsys):
    for arguments, said in ((["recipes"], "\n  lg-medseg "), (["recipes", "lora"], "kind: lora")):
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        assert end.value.code == 0
        assert said in capsys.readouterr().out


def test_what_is_no_recipe_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such recipe"):
        show("nonsense")
    (tmp_path / "a.yaml").write_text("name: [x")
    with pytest.raises(InputError, match="is not YAML"):
        show(tmp_path / "a.yaml")
