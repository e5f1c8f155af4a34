"""Formats of a table: GitHub Markdown, LaTeX (booktabs, adjustbox) and CSV."""

import csv
import io
import re
from collections.abc import Iterable

from samling.evaluation.report import Table

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "–": "--", "≤": r"$\leq$", "<": r"$<$", ">": r"$>$", "−": "$-$", "Δ": r"$\Delta$",
    "×": r"$\times$",
}  # fmt: skip


def markdown(table: Table) -> str:
    """A table as GitHub Markdown; numbers to the right, strong rows in bold, the caption below."""
    lines = [_line(table.header)]
    columns = range(len(table.header))
    lines.append(_line(["---" if i in table.text_columns else "---:" for i in columns]))
    for index, row in enumerate(table.rows):
        cells = [cell.replace("|", "\\|").replace("\n", " ") for cell in row]
        bold = index in table.strong
        lines.append(_line([f"**{cell}**" if bold and cell else cell for cell in cells]))
    return "\n".join(lines) + "\n" + (f"\n{table.caption}\n" if table.caption else "")


def signed(number: float) -> str:
    """With its sign and one decimal, and no minus before zero.

    >>> signed(1.26), signed(-0.04)
    ('+1.3', '+0.0')
    """
    return f"{round(number, 1) + 0.0:+.1f}"


def latex(table: Table, title: str = "") -> str:
    """A table for LaTeX with the packages booktabs and adjustbox; every text is escaped.

    A table wider than the page's text is scaled down to it.

    Args:
        title: stands in the caption, before the table's own; its words are the label, `tab:...`.
    """
    columns = "".join("l" if i in table.text_columns else "r" for i in range(len(table.header)))
    body = []
    for index, row in enumerate(table.rows):
        cells = [_escaped(cell) for cell in row]
        if index in table.strong:
            cells = [f"\\textbf{{{cell}}}" if cell else cell for cell in cells]
        body.append(" & ".join(cells) + r" \\")
    words = " ".join(text for text in (title and f"{title}.", table.caption) if text)
    caption = [f"\\caption{{{_escaped(words)}}}"] if words else []
    caption += [f"\\label{{tab:{slug(title)}}}"] if title else []
    lines = [
        r"\begin{table}", r"\centering", *caption, r"\begin{adjustbox}{max width=\linewidth}",
        f"\\begin{{tabular}}{{{columns}}}", r"\toprule",
        " & ".join(_escaped(cell) for cell in table.header) + r" \\", r"\midrule", *body,
        r"\bottomrule", r"\end{tabular}", r"\end{adjustbox}", r"\end{table}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def slug(title: str) -> str:
    """A title as a name of files and labels.

    >>> slug("BUSI: On damaged pictures")
    'busi-on-damaged-pictures'
    """
    return re.sub(r"\W+", "-", title.lower()).strip("-")


def csv_text(table: Table) -> str:
    """A table as CSV, cells as they are shown."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([table.header, *table.rows])
    return text.getvalue()


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text.replace("\n", " "))
