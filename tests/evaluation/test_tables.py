"""Tables: means, counts, Markdown, CSV."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from samling.evaluation.forest import forest
from samling.evaluation.report import Table
from samling.evaluation.run import Row
from samling.evaluation.tables import (
    automatic,
    by_category,
    category_table,
    describe,
    headline,
    markdown,
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
    assert summarise([row("a", 0.5, hd95_mm=3.0), row("b", 1.0, hd95_mm=4.0)])[0].hd95_mm == 3.5


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
     ("auto", "automatic (no prompt)"), ("clicks3", "3 clicks, each where it is most wrong")],
)  # fmt: skip
def test_protocols_in_words(protocol: str, words: str) -> None:
    assert describe(protocol) == words


def test_markdown_escapes_and_aligns() -> None:
    text = markdown(Table(("Name", "Dice"), (("a|b", "0.5"), ("c", "")), strong=(0,)))
    assert text.splitlines() == [
        "| Name | Dice |",
        "| --- | ---: |",
        "| **a\\|b** | **0.5** |",
        "| c |  |",
    ]


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
