"""caveats: one sentence for all that share their sets, none where there is nothing to say."""

from samling.recipes.caveats import seen_before, unfinished


def test_methods_of_the_same_sets_share_a_sentence() -> None:
    sets = frozenset({"busi", "ddti"})
    trained = {("base", "mine"): sets, ("adapted", "mine"): sets | {"mine.v1"}}
    itself, said = seen_before(trained, {"mine": "mine.v1"})
    assert itself.startswith("adapted was trained on other images of mine: ")
    assert said.startswith("base, adapted were trained on busi, ddti: ")
    assert "in mine under another name" in said and "flatter them" in said


def test_one_base_on_its_own_sets_is_one_sentence_not_one_for_each() -> None:
    names = ("busi", "ddti", "tn3k")
    trained = {("base", name): frozenset(names) for name in names}
    itself, said = seen_before(trained, {name: name for name in names})
    assert itself.startswith("base was trained on other images of busi, ddti, tn3k: ")
    assert "not a new organ" in itself
    assert said.startswith("base was trained on busi, ddti, tn3k: ")
    assert "in busi, ddti, tn3k under another name" in said and "flatter it" in said


def test_other_sets_are_another_sentence() -> None:
    trained = {("a", "mine"): frozenset({"x"}), ("b", "mine"): frozenset({"y"})}
    assert len(seen_before(trained, {"mine": "mine"})) == 2


def test_what_knows_only_the_training_part_of_this_set_flatters_nowhere() -> None:
    trained = {("adapted", "mine"): frozenset({"mine"}), ("box", "mine"): frozenset[str]()}
    (said,) = seen_before(trained, {"mine": "mine"})
    assert said.startswith("adapted was trained on other images of mine: ")
    assert seen_before({("box", "mine"): frozenset[str]()}, {"mine": "mine"}) == []


def test_runs_in_the_middle_of_their_training_are_told_in_one_sentence() -> None:
    epochs = {"a": (1, 3), "b": (3, 3), "c": (0, 2), "base": None}
    (said,) = unfinished(epochs)
    assert said.startswith("The training of a (1 of 3 epochs), c (0 of 2 epochs) is not finished")
    assert unfinished({"b": (3, 3), "base": None}) == []
    (said,) = unfinished({f"m{number}": (1, 2) for number in range(7)})
    assert "m4 (1 of 2 epochs) and 2 more is not finished" in said
