"""Tables: means, counts, Markdown, CSV."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from samling.evaluation.forest import forest
from samling.evaluation.formats import markdown
from samling.evaluation.metrics import HD95_VARIANT
from samling.evaluation.run import Row
from samling.evaluation.tables import (
    automatic,
    by_category,
    category_table,
    clicks_table,
    describe,
    details,
    headline,
    summarise,
    write_csv,
)


def row(id: str, dice: float | None, **changes) -> Row:
    plain = Row(id, id, "cyst", "mine", "box", dice is not None, 1)
    if dice is not None:
        plain = replace(plain, dice=dice, iou=dice / 2, hd95_px=10 * dice, n_found=1)
    return replace(plain, **changes)


def test_means_are_over_counted_images() -> None:
    (score,) = summarise([row("a", 0.5), row("b", 1.0), row("c", None)])
    assert score.dice is not None and score.hd95_px is not None
    assert (score.n, score.n_skipped, score.dice.mean, score.hd95_px.mean) == (2, 1, 0.75, 7.5)
    assert score.hd95_mm is None
    (score,) = summarise([row("a", 0.5, hd95_mm=3.0), row("b", 1.0, hd95_mm=4.0)])
    assert score.hd95_mm is not None and score.hd95_mm.mean == 3.5
    (score,) = summarise([row("a", 0.5, hd95_mm=3.0), row("b", 1.0)])
    assert score.hd95_mm is None  # a mean over some of the images would be another number


def test_patients_may_weigh_the_same() -> None:
    rows = [row("a", 0.5, group="p"), row("b", 0.5, group="p"), row("c", 0.8, group="q")]
    by_image, by_patient = summarise(rows)[0], summarise(rows, over="patient")[0]
    assert by_image.dice is not None and by_patient.dice is not None
    assert (by_image.dice.mean, by_patient.dice.mean) == pytest.approx((0.6, 0.65))
    assert "Means over patients" in headline([by_patient], "mine", "patient").caption


def test_jensens_check_finds_a_wrong_mean() -> None:
    right = row("a", 0.9, iou=0.9 / 1.1)
    assert summarise([right])[0].consistent
    assert not summarise([replace(right, iou=0.7)])[0].consistent


def test_hd95_is_named_in_the_table() -> None:
    assert HD95_VARIANT in markdown(headline(summarise([row("a", 0.5)]), "mine"))


def test_details_show_the_sign_of_the_area_error_and_mm_only_where_known() -> None:
    rows = [row("a", 0.5, area_error=-0.25, n_false_alarms=1, assd_px=1.5, nsd_px=0.9)]
    table = details(summarise(rows), "mine")
    cells = dict(zip(table.header, table.rows[0], strict=True))
    assert cells["Area error"] == "-0.250" and cells["NSD 2 px"] == "0.900"
    assert cells["BCE"] == "–" and cells["Lesions found"] == "1 of 1"
    assert not any(name.endswith(" mm") for name in table.header)
    with_mm = details(summarise([replace(rows[0], hd95_mm=2.0, nsd_mm=0.5)]), "mine")
    assert "NSD 1 mm" in with_mm.header


def test_clicks_have_their_own_table_and_stay_out_of_the_headline() -> None:
    rows = [
        row("a", 0.92, protocol="noc90", clicks=3),
        row("b", 0.5, protocol="noc90", clicks=20),
        row("a", 0.7),
    ]
    scores = summarise(rows)
    table = clicks_table(scores, "mine")
    assert table is not None
    assert table.rows[0][2].startswith("11.50") and table.rows[0][3] == "1 of 2"
    assert [line[0] for line in headline(scores, "mine").rows] == ["tight box"]
    assert clicks_table(summarise([row("a", 0.7)]), "mine") is None


def test_a_score_survives_json() -> None:
    import json
    from dataclasses import asdict

    from samling.evaluation.tables import Score

    (score,) = summarise([row("a", 0.5), row("b", None)])
    assert Score.from_json(json.loads(json.dumps(asdict(score)))) == score


def test_scores_are_kept_apart_and_in_order() -> None:
    rows = [row("a", 0.5), row("a", 0.6, protocol="auto"), row("a", 0.4, method="other")]
    keys = [(score.protocol, score.method) for score in summarise(rows)]
    assert keys == [("box", "mine"), ("box", "other"), ("auto", "mine")]


def test_nothing_counted_is_a_dash_not_nan() -> None:
    table = headline(summarise([row("a", None)]), "mine")
    assert "nan" not in markdown(table)
    assert table.rows[0][2] == "–"
    assert table.rows[0][-1] == "0 (+1 empty)"


def test_automatic_mode_tells_lesions_and_empty_images() -> None:
    rows = [
        row("a", 0.8, protocol="auto", n_label_objects=2, n_found=1),
        row("n", 1.0, protocol="auto", n_label_objects=0, n_found=0),
        row("m", 0.0, protocol="auto", n_label_objects=0, n_found=0, n_false_alarms=3),
    ]
    table = automatic(summarise(rows))
    assert table is not None
    assert table.rows[0] == ("mine", "0.800", "1 of 2", "1.00", "1 of 2")
    assert automatic(summarise([row("a", 1.0)])) is None


def test_categories() -> None:
    rows = [row("a", 0.5), row("b", 1.0, category="solid"), row("c", 0.1, method="other")]
    table = category_table(by_category(rows, "mine"))
    assert table is not None
    assert [line[:2] for line in table.rows] == [("cyst", "1"), ("solid", "1")]
    assert category_table(by_category([row("a", 0.5)], "mine")) is None


@pytest.mark.parametrize(
    ("protocol", "words"),
    [("box", "tight box"), ("point1", "1 point inside"), ("point5", "5 points inside"),
     ("auto", "automatic (no prompt)"),
     ("clicks3", "3 clicks, the first inside, then where it is most wrong"),
     ("boxclicks1", "tight box, then 1 click where it is most wrong"),
     ("boxclicks3", "tight box, then 3 clicks where it is most wrong"),
     ("noc90", "clicks until Dice 0.90")],
)  # fmt: skip
def test_protocols_in_words(protocol: str, words: str) -> None:
    assert describe(protocol) == words


def test_csv_has_a_line_per_row(tmp_path: Path) -> None:
    write_csv(tmp_path / "r.csv", [row("a", 0.123456789), row('b,"', None)])
    lines = list(csv.DictReader((tmp_path / "r.csv").open(encoding="utf-8")))
    assert [line["id"] for line in lines] == ["a", 'b,"']
    assert lines[0]["dice"] == "0.123457" and lines[0]["counted"] == "1"
    assert lines[1]["dice"] == "" and lines[1]["counted"] == "0"


def test_forest_is_well_formed_and_escaped() -> None:
    from xml.etree import ElementTree

    scores = summarise([row("a", 0.5, method="<mine>"), row("b", 0.9, method="<mine>")])
    root = ElementTree.fromstring(forest(scores, "<mine>"))
    assert "<mine>" in [element.text for element in root.iter("text")]
    assert len(list(root.iter("circle"))) == 1
    assert forest(summarise([row("a", None)]), "mine") == ""
