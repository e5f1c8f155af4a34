"""Protocols: how a segmenter is asked."""

from types import SimpleNamespace

import numpy as np
import pytest

from samling.errors import InputError
from samling.evaluation.protocols import ALL, MOST_CLICKS, ask, expand, generator, kinds_of


@pytest.mark.parametrize(
    ("protocol", "kinds"),
    [("box", ("box",)), ("jitter10", ("box",)), ("point3", ("points",)), ("clicks3", ("points",)),
     ("noc90", ("points",)), ("boxclicks2", ("box", "points")), ("auto", ("automatic",)),
     ("boxclicks2~jpeg1", ("box", "points"))],
)  # fmt: skip
def test_kinds(protocol: str, kinds: tuple[str, ...]) -> None:
    assert kinds_of(protocol) == kinds


@pytest.mark.parametrize("protocol", ["boxes", "", "jitter", "point0", "auto2", "boxclicks"])
def test_unknown_protocol_is_the_users_error(protocol: str) -> None:
    with pytest.raises(InputError, match="--prompts"):
        kinds_of(protocol)


def test_a_misspelt_protocol_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean damaged"):
        kinds_of("damage")


def test_all_stands_for_every_protocol_and_none_is_asked_twice() -> None:
    assert expand(["all"]) == list(ALL)
    assert expand(["point1", "all", "point1"])[0] == "point1"
    assert len(expand(["point1", "all"])) == len(ALL)
    for wrong in ([], ["boxes"], ["all", "boxes"]):
        with pytest.raises(InputError, match="--prompts"):
            expand(wrong)


def test_random_numbers_depend_on_seed_id_and_protocol_alone() -> None:
    def draw(*key) -> float:
        return generator(*key).random()

    assert draw(0, "a", "jitter10") == draw(0, "a", "jitter10")
    others = [(1, "a", "jitter10"), (0, "b", "jitter10"), (0, "a", "point1")]
    assert len({draw(0, "a", "jitter10"), *(draw(*key) for key in others)}) == 4


def test_objects_are_united(fakes: SimpleNamespace) -> None:
    case = fakes.disc_case("two", [(20, 20, 8), (35, 60, 8)])
    answer = ask(fakes.Segmenter(), case.image, case, "box", 0)
    assert answer is not None
    assert len(answer.prompts) == len(answer.objects) == 2
    np.testing.assert_array_equal(answer.mask, case.labels > 0)
    assert answer.quality == pytest.approx(0.8)


def test_nothing_to_point_at_but_automatic_mode_is_asked(fakes: SimpleNamespace) -> None:
    case = fakes.disc_case("none", [])
    segmenter = fakes.Segmenter()
    assert ask(segmenter, case.image, case, "box", 0) is None
    assert segmenter.asked == []
    answer = ask(segmenter, case.image, case, "auto", 0)
    assert answer is not None and not answer.mask.any() and answer.quality is None


def test_each_click_answers_the_last_mask(fakes: SimpleNamespace) -> None:
    def nothing(image: np.ndarray, prompt) -> list[np.ndarray]:
        return [np.zeros(image.shape, dtype=bool)]

    case = fakes.disc_case("one", [(30, 40, 10)])
    segmenter = fakes.Segmenter(shape=nothing)
    answer = ask(segmenter, case.image, case, "clicks3", 0)
    assert answer is not None
    assert [len(prompts[0].points) for prompts in segmenter.asked] == [1, 2, 3]
    points = answer.prompts[0].points.astype(int)
    assert (case.labels[points[:, 1], points[:, 0]] == 1).all()  # all missed: all clicks inside
    assert answer.prompts[0].point_labels.tolist() == [1, 1, 1]
    assert answer.prompts[0].mask is None


def test_clicks_after_a_box_keep_the_box(fakes: SimpleNamespace) -> None:
    case = fakes.disc_case("one", [(30, 40, 10)])
    segmenter = fakes.Segmenter(shape=lambda image, prompt: [np.zeros(image.shape, dtype=bool)])
    answer = ask(segmenter, case.image, case, "boxclicks2", 0)
    assert answer is not None
    assert [len(prompts[0].points) for prompts in segmenter.asked] == [0, 1, 2]
    for prompts in segmenter.asked:
        assert prompts[0].box.tolist() == segmenter.asked[0][0].box.tolist()
    assert answer.clicks is None


def test_clicking_stops_when_the_dice_is_reached(fakes: SimpleNamespace) -> None:
    case = fakes.disc_case("one", [(30, 40, 12)])
    label = case.labels > 0

    def by_clicks(image: np.ndarray, prompt) -> list[np.ndarray]:
        """A quarter of the disc more with every click."""
        share = min(len(prompt.points) / 4, 1)
        return [label & (np.arange(80) < 28 + share * 25)]

    segmenter = fakes.Segmenter(shape=by_clicks)
    answer = ask(segmenter, case.image, case, "noc90", 0)
    assert answer is not None
    assert answer.clicks == len(segmenter.asked) == 3  # half a disc: Dice 0.7; six sevenths: 0.92
    assert ask(fakes.Segmenter(), case.image, case, "noc90", 0).clicks == 1


def test_a_dice_never_reached_counts_as_the_most_clicks(fakes: SimpleNamespace) -> None:
    def nothing(image: np.ndarray, prompt) -> list[np.ndarray]:
        return [np.zeros(image.shape, dtype=bool)]

    case = fakes.disc_case("one", [(30, 40, 10)])
    answer = ask(fakes.Segmenter(shape=nothing), case.image, case, "noc90", 0)
    assert answer is not None
    assert answer.clicks == MOST_CLICKS == len(answer.prompts[0].points)
    assert ask(fakes.Segmenter(), case.image, case, "clicks2", 0).clicks is None


def test_earlier_mask_goes_along_if_the_model_knows_masks(fakes: SimpleNamespace) -> None:
    case = fakes.disc_case("one", [(30, 40, 10)])
    segmenter = fakes.Segmenter(card=fakes.card(prompts=("points", "mask")))
    answer = ask(segmenter, case.image, case, "clicks2", 0)
    assert answer is not None
    mask = answer.prompts[0].mask
    assert mask is not None and mask.shape == (64, 64)
