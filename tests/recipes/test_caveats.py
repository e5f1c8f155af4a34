"""caveats: one sentence for all that share their sets, none where there is nothing to say."""

from samling.recipes.caveats import seen_before


def test_methods_of_the_same_sets_share_a_sentence() -> None:
    sets = frozenset({"busi", "ddti"})
    trained = {("base", "mine"): sets, ("adapted", "mine"): sets | {"mine.v1"}}
    (said,) = seen_before(trained, {"mine": "mine.v1"})
    assert said.startswith("base, adapted were trained on busi, ddti: ")
    assert "in mine under another name" in said and "flatter them" in said


def test_one_base_on_its_own_sets_is_one_sentence_not_one_for_each() -> None:
    names = ("busi", "ddti", "tn3k")
    trained = {("base", name): frozenset(names) for name in names}
    (said,) = seen_before(trained, {name: name for name in names})
    assert said.startswith("base was trained on busi, ddti, tn3k: ")
    assert "in busi, ddti, tn3k under another name" in said and "flatter it" in said


def test_other_sets_are_another_sentence() -> None:
    trained = {("a", "mine"): frozenset({"x"}), ("b", "mine"): frozenset({"y"})}
    assert len(seen_before(trained, {"mine": "mine"})) == 2


def test_what_knows_only_the_training_part_of_this_set_is_not_named() -> None:
    trained = {("adapted", "mine"): frozenset({"mine"}), ("box", "mine"): frozenset[str]()}
    assert seen_before(trained, {"mine": "mine"}) == []
