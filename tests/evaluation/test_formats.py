"""Formats: what a table becomes."""

import csv

from samling.evaluation.formats import csv_text, latex, markdown
from samling.evaluation.report import Table

TABLE = Table(("Name", "Dice"), (("a|b", "0.5"), ("c", "")), strong=(0,))


def test_markdown_escapes_and_aligns() -> None:
    assert markdown(TABLE).splitlines() == [
        "| Name | Dice |",
        "| --- | ---: |",
        "| **a\\|b** | **0.5** |",
        "| c |  |",
    ]


def test_the_caption_stands_below() -> None:
    assert markdown(Table(("A",), (("1",),), "HD95: so.")).endswith("| 1 |\n\nHD95: so.\n")


def test_latex_escapes_everything_special() -> None:
    text = latex(Table(("a_b & c", "±5 %"), (("50% {x}", "<0.001"),), "N\\o", strong=(0,)))
    assert r"a\_b \& c & $\pm$5 \% \\" in text
    assert r"\textbf{50\% \{x\}} & \textbf{$<$0.001} \\" in text
    assert r"\caption{N\textbackslash{}o}" in text
    assert text.count(r"\begin{") == text.count(r"\end{") == 3
    assert r"\begin{tabular}{lr}" in text


def test_latex_names_what_it_shows_and_can_be_referred_to() -> None:
    with_note = Table(("A",), (("1",),), "HD95: so.")
    assert "\\caption{BUSI\\_2: Results. HD95: so.}\n\\label{tab:busi_2-results}\n" in latex(
        with_note, "BUSI_2: Results"
    )
    assert "\\caption{Cost.}\n\\label{tab:cost}\n" in latex(TABLE, "Cost")
    assert "caption" not in latex(TABLE) and "label" not in latex(TABLE)


def test_csv_reads_back() -> None:
    table = Table(("a", "b"), (('x,"y"', "1"), ("line\nbreak", "2")))
    assert [tuple(row) for row in csv.reader(csv_text(table).splitlines(keepends=True))] == [
        table.header,
        *table.rows,
    ]
