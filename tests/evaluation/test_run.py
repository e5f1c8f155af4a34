"""The loop over a split: what is counted, encoded once, in any order."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from samling.data.splits import TestSplit, TrainSplit, ValSplit
from samling.errors import InputError
from samling.evaluation.run import Row, evaluate_baselines, evaluate_segmenter

PROTOCOLS = ["box", "jitter20", "point1", "auto"]


@pytest.fixture
def store(fakes: SimpleNamespace):
    cases = [
        fakes.disc_case("one", [(30, 30, 10)], group="g", category="cyst", spacing_mm=(0.5, 0.5)),
        fakes.disc_case("two", [(20, 20, 9), (40, 60, 9)]),
        fakes.disc_case("none", [], category="normal"),
    ]
    return fakes.Store({case.id: case for case in cases})


def only(rows: list[Row], id: str, protocol: str, method: str = "fake") -> Row:
    (row,) = [r for r in rows if (r.id, r.protocol, r.method) == (id, protocol, method)]
    return row


def test_every_image_is_encoded_once(fakes: SimpleNamespace, store) -> None:
    segmenter = fakes.Segmenter()
    rows = evaluate_segmenter(segmenter, store, ValSplit(("one", "two", "none")), PROTOCOLS)
    assert segmenter.encoded == 3
    assert len(rows) == 12


def test_a_damage_grows_with_its_level(fakes: SimpleNamespace, store) -> None:
    """All levels of a damage are one draw, so that a curve over them is about one accident."""
    segmenter, seen = fakes.Segmenter(), []
    encode = segmenter.encode
    segmenter.encode = lambda image: (seen.append(image), encode(image))[1]
    protocols = ["box", "box~shadow1", "box~shadow2", "box~shadow3"]
    evaluate_segmenter(segmenter, store, ValSplit(("one",)), protocols)
    dark = [shaded < seen[0] for shaded in seen[1:]]
    assert dark[0].any() and (dark[0] <= dark[1]).all() and (dark[1] <= dark[2]).all()
    assert dark[0].sum() < dark[1].sum() < dark[2].sum()


def test_a_perfect_segmenter_scores_one(fakes: SimpleNamespace, store) -> None:
    rows = evaluate_segmenter(fakes.Segmenter(), store, ValSplit(("one", "two")), ["box", "auto"])
    for row in rows:
        assert (row.dice, row.iou, row.hd95_px) == (1, 1, 0)
        assert row.n_found == row.n_label_objects and row.n_false_alarms == 0
    assert only(rows, "one", "box").group == "g"
    assert only(rows, "two", "box").group == "two"


def test_distance_in_mm_only_where_the_spacing_is_known(fakes: SimpleNamespace, store) -> None:
    def left_half(image: np.ndarray, prompt) -> list[np.ndarray]:
        return [(image < 50) & (np.arange(80) < 30)]

    segmenter = fakes.Segmenter(shape=left_half)
    rows = evaluate_segmenter(segmenter, store, ValSplit(("one", "two")), ["box"])
    one, two = rows
    assert one.hd95_px is not None and one.hd95_px > 3
    assert one.hd95_mm == pytest.approx(one.hd95_px / 2)
    assert two.hd95_mm is None


def test_empty_labels_count_for_automatic_mode_only(fakes: SimpleNamespace, store) -> None:
    def everywhere(image: np.ndarray, prompt) -> list[np.ndarray]:
        return [np.ones(image.shape, dtype=bool)]

    right = evaluate_segmenter(fakes.Segmenter(), store, TestSplit(("none",)), PROTOCOLS)
    assert [row.counted for row in right] == [False, False, False, True]
    assert [row.dice for row in right] == [None, None, None, 1.0]
    segmenter = fakes.Segmenter(shape=everywhere)
    wrong = only(
        evaluate_segmenter(segmenter, store, TestSplit(("none",)), ["auto"]), "none", "auto"
    )
    assert (wrong.dice, wrong.hd95_px, wrong.n_false_alarms) == (0, 100, 1)
    assert (wrong.sensitivity, wrong.precision, wrong.nsd_px, wrong.area_error) == (0, 0, 0, 2)


def test_a_missed_lesion_counts_in_every_metric(fakes: SimpleNamespace, store) -> None:
    def nothing(image: np.ndarray, prompt) -> list[np.ndarray]:
        return [np.zeros(image.shape, dtype=bool)]

    (row,) = evaluate_segmenter(fakes.Segmenter(shape=nothing), store, ValSplit(("one",)), ["box"])
    assert (row.dice, row.iou, row.sensitivity, row.precision, row.nsd_px, row.nsd_mm) == (0,) * 6
    assert (row.hd_px, row.hd95_px, row.assd_px) == (100, 100, 100)
    assert (row.hd_mm, row.hd95_mm, row.assd_mm) == (50, 50, 50)
    assert (row.area_error, row.n_found) == (-2, 0)


def test_probabilities_are_scored_where_there_are_any(fakes: SimpleNamespace, store) -> None:
    split = ValSplit(("one",))
    (row,) = evaluate_segmenter(fakes.Segmenter(), store, split, ["box"])
    assert row.cross_entropy == pytest.approx(-np.log(0.9))
    filled, _ = evaluate_baselines(store, split, ["box"])
    assert filled.cross_entropy is None


def test_answers_are_shown_to_who_asks(fakes: SimpleNamespace, store) -> None:
    shown = []
    evaluate_segmenter(
        fakes.Segmenter(), store, ValSplit(("one", "none")), ["box", "auto"],
        seen=lambda case, protocol, answer: shown.append((case.id, protocol, answer.mask.sum())),
    )  # fmt: skip
    label = int((store.case("one").labels > 0).sum())
    assert shown == [("one", "box", label), ("one", "auto", label), ("none", "auto", 0)]


def test_prompts_do_not_depend_on_the_order_of_images(fakes: SimpleNamespace, store) -> None:
    def rows(ids: tuple[str, ...]) -> set[Row]:
        return set(evaluate_segmenter(fakes.Segmenter(), store, ValSplit(ids), PROTOCOLS, 3))

    assert rows(("one", "two", "none")) == rows(("none", "two", "one"))


def test_baselines_get_the_same_boxes_as_the_model(fakes: SimpleNamespace, store) -> None:
    segmenter = fakes.Segmenter()
    split, protocols = ValSplit(("one",)), ["jitter20"]
    evaluate_segmenter(segmenter, store, split, protocols, 5)
    (x0, y0, x1, y1) = np.rint(segmenter.asked[0][0].box).astype(int)
    filled, ellipse = evaluate_baselines(store, split, protocols, 5)
    label = store.case("one").labels > 0
    area = (x1 - x0) * (y1 - y0)
    expected = 2 * label[y0:y1, x0:x1].sum() / (label.sum() + area)
    assert filled.dice == pytest.approx(expected, abs=1e-6)
    assert (filled.method, ellipse.method) == ("fill the box", "ellipse in the box")
    assert ellipse.quality is None


def test_baselines_need_boxes(store) -> None:
    split = ValSplit(("one", "none"))
    assert evaluate_baselines(store, split, ["point1", "auto", "boxclicks2"]) == []
    rows = evaluate_baselines(store, split, ["point1", "box"])
    assert {row.protocol for row in rows} == {"box"}
    assert [row.counted for row in rows if row.id == "none"] == [False, False]


def test_training_images_are_refused(fakes: SimpleNamespace, store) -> None:
    with pytest.raises(TypeError, match="TrainSplit"):
        evaluate_segmenter(fakes.Segmenter(), store, TrainSplit(("one",)), ["box"])


def test_unknown_protocols_are_refused_before_the_first_image(fakes, store) -> None:
    segmenter = fakes.Segmenter()
    with pytest.raises(InputError, match="--prompts"):
        evaluate_segmenter(segmenter, store, ValSplit(("one",)), ["boxes"])
    assert segmenter.encoded == 0


def test_specks_of_annotation_are_no_lesions(fakes: SimpleNamespace) -> None:
    case = fakes.disc_case("speck", [(30, 30, 10)])
    labels = case.labels.copy()
    labels[2, 2] = 1
    store = fakes.Store({"speck": replace(case, labels=labels)})
    (row,) = evaluate_segmenter(fakes.Segmenter(), store, ValSplit(("speck",)), ["box"])
    assert row.n_label_objects == 1
    assert row.dice is not None and 0.99 < row.dice < 1  # but its pixel belongs to the label


def test_progress_tells_speed(fakes: SimpleNamespace, store) -> None:
    said: list[str] = []
    split = ValSplit(("one", "two"))
    evaluate_segmenter(fakes.Segmenter(), store, split, ["box"], progress=said.append)
    assert said and "2/2 images" in said[-1] and "images/s" in said[-1]
