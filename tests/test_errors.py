"""InputError: one line that says where, what and what to do."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samling.errors import InputError, one_of

words = st.text(st.characters(categories=["L", "Nd"]), min_size=1)


@given(where=words, problem=words, remedy=words)
def test_message_holds_all_three_parts_in_order(where: str, problem: str, remedy: str) -> None:
    text = str(InputError(where, problem, remedy))
    assert text == f"{where}: {problem}. Remedy: {remedy}."


def test_full_stops_are_not_doubled() -> None:
    assert str(InputError("a", "is bad.", "mend it.")) == "a: is bad. Remedy: mend it."


def test_parts_stay_readable_for_programs() -> None:
    with pytest.raises(InputError) as caught:
        raise InputError("a.png", "is truncated", "export it again")
    error = caught.value
    assert (error.where, error.problem, error.remedy) == (
        "a.png",
        "is truncated",
        "export it again",
    )


def test_survives_the_way_back_from_a_worker_process() -> None:
    error = pickle.loads(pickle.dumps(InputError("a", "b", "c")))
    assert str(error) == "a: b. Remedy: c."


def test_a_misspelt_name_gets_the_nearest_alone_and_a_strange_one_the_list() -> None:
    names = [f"recipe-{letter * 4}" for letter in "abcdefgh"]
    assert one_of("recipe-bbb", names) == "did you mean recipe-bbbb?"
    assert one_of("RECIPE-CCCC", names) == "did you mean recipe-cccc?"
    assert one_of("zzz", names) == f"use one of {', '.join(names)}"
    assert str(InputError("a", "b", "did you mean c?")) == "a: b. Remedy: did you mean c?"
