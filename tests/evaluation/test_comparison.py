"""Comparison: seeds averaged, spread, figures of papers, cost, the choice of pictures."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from samling.config import Published
from samling.evaluation.comparison import (
    counts_over_seeds,
    over_seeds,
    published_table,
    seed_spread,
)
from samling.evaluation.cost import WARM_RUNS, measure_cost
from samling.evaluation.matrix import drawn_by_lot, write_matrix
from samling.evaluation.run import Row
from samling.evaluation.tables import summarise


def row(id: str, dice: float, **changes) -> Row:
    return replace(Row(id, id, "", "mine", "box", True, 1), dice=dice, **changes)


def test_seeds_are_averaged_image_by_image() -> None:
    by_seed = {
        0: [row("a", 0.5, n_found=1, clicks=3), row("b", 0.9)],
        1: [row("a", 0.7, n_found=0, clicks=6), row("b", 0.9, hd95_mm=2.0)],
    }
    first, second = over_seeds(by_seed)
    assert (first.dice, first.clicks) == (pytest.approx(0.6), 4.5)
    assert second.hd95_mm is None  # not known with every seed
    assert over_seeds({0: [row("a", 0.5)], 1: []}) == [row("a", 0.5)]


def test_what_is_counted_is_counted_in_every_seed_and_then_averaged() -> None:
    """Three networks that each find another third of the lesions find a third, not none and not all."""
    auto = {"protocol": "auto", "n_label_objects": 1}
    ids = [f"{n:02}" for n in range(30)]
    by_seed = {
        seed: [
            row(id, float(hit), n_found=int(hit), n_false_alarms=int(not hit), **auto)
            for id, hit in ((id, int(id) % 3 == seed) for id in ids)
        ]
        + [row("empty", float(seed == 0), protocol="auto", n_label_objects=0)]
        for seed in range(3)
    }
    (score,) = counts_over_seeds(summarise(over_seeds(by_seed)), by_seed)
    assert (score.n_found, score.n_lesions) == (10, 30)
    assert score.n_false_alarms == 20
    assert score.n_empty_right == pytest.approx(1 / 3)
    reached = {s: [row("a", 0.95 - 0.1 * s, protocol="noc90", clicks=3 + s)] for s in (0, 1)}
    (score,) = counts_over_seeds(summarise(over_seeds(reached)), reached)
    assert score.n_reached == 0.5 and score.clicks.mean == 3.5


def test_spread_is_that_of_the_means() -> None:
    by_seed = {0: [row("a", 0.5), row("b", 0.7)], 1: [row("a", 0.7), row("b", 0.9)]}
    assert seed_spread(by_seed) == {("box", "mine"): pytest.approx(np.std([0.6, 0.8], ddof=1))}
    assert seed_spread({0: by_seed[0]}) == {}


def test_published_figures() -> None:
    good = Published(method="a", source="s", dice=0.9, iou=0.82)
    table = published_table([good, Published(method="b", source="s", dice=0.9, iou=0.5),
                             Published(method="c", source="s", dice=0.9)])  # fmt: skip
    assert table is not None
    assert [line[-1] for line in table.rows] == ["possible", "impossible (Jensen)", "–"]
    assert table.rows[0][1:3] == ("not stated", "not stated")
    assert published_table([]) is None


@pytest.mark.parametrize("prompts", [("box",), ("points",), ("automatic",)])
def test_cost_counts_the_first_image_apart(fakes: SimpleNamespace, prompts) -> None:
    segmenter = fakes.Segmenter(card=fakes.card(prompts=prompts))
    images = [fakes.disc_case("a", [(30, 40, 9)]).image] * 2
    cost = measure_cost(segmenter, images, 1000)
    assert segmenter.encoded == WARM_RUNS + 1 and cost.images == WARM_RUNS
    assert cost.parameters == 1000
    assert 0 < cost.encode_ms <= cost.ms <= 1.5 * cost.p95_ms + 1
    assert cost.cold_ms > 0


def test_pictures_are_drawn_by_lot(tmp_path, fakes: SimpleNamespace) -> None:
    ids = [f"case{i}" for i in range(30)]
    chosen = drawn_by_lot(ids)
    assert chosen == drawn_by_lot(ids[::-1]) and len(chosen) == 4 and chosen != ids[:4]
    cases = {id: fakes.disc_case(id, [(30, 40, 9)]) for id in chosen}
    store = fakes.Store(cases)
    mask = cases[chosen[0]].labels > 0
    path = tmp_path / "m.png"
    answers = {"mine": {chosen[0]: (mask, (), 1.0)}, "other": {}}
    assert write_matrix(path, store, chosen, answers) == path and path.is_file()
    assert write_matrix(tmp_path / "n.png", store, chosen, {}) is None
