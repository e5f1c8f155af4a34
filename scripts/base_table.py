"""The tables of docs/results/base.md from what scripts/base.sh left behind.

python scripts/base_table.py OUT
"""

import sys
from pathlib import Path
from typing import Any

from lg_medseg_table import Scores, cell, scores_of

SETS = {
    "breast_busi": "breast lesions (BUSI)",
    "thyroid_ddti": "thyroid nodules (DDTI)",
    "thyroid_tg3k": "thyroid gland (TG3K)",
    "fetal_hc18": "fetal head (HC18)",
    "nerve_usgra": "nerve and vessel (usgra)",
    "ovary_mmotu": "ovarian tumours (MMOTU)",
    "ct_msd_liver": "CT liver (MSD)",
    "ct_ircadb_slices": "CT liver (3Dircadb), such pictures never trained on",
}
COLUMNS = {
    ("ellipse in the box", "box"): "ellipse, box",
    ("litemedsam", "box"): "LiteMedSAM, box",
    ("litemedsam", "jitter10"): "± 10 %",
    ("base", "box"): "base, box",
    ("base", "jitter10"): "± 10 %",
    ("base", "point1"): "one point",
    ("base", "auto"): "automatic",
}


LEFT_OUT = {
    ("ellipse in the box", "box"): "ellipse, box",
    ("litemedsam", "box"): "LiteMedSAM, box",
    ("litemedsam", "jitter10"): "± 10 %",
    ("left-out", "box"): "left out, box",
    ("left-out", "jitter10"): "± 10 %",
    ("left-out", "point1"): "one point",
    ("left-out", "auto"): "automatic",
    ("base", "box"): "the base, trained on it, box",
}
METHODS = ("base", "litemedsam", "left-out")


def main(out: Path) -> None:
    """Print the tables; a set that was not measured is a row that is not there."""
    _table(out, "base", COLUMNS)
    print(
        "\n### Whole sets left out of training: made as the base is, of breast, gland, nerve and CT\n"
    )
    _table(out, "left-out", LEFT_OUT)


def _table(out: Path, method: str, columns: dict[tuple[str, str], str]) -> None:
    boxes = [(who, protocol) for who, protocol in columns if protocol == "box"]
    distances = ", ".join(title.partition(",")[0] for c, title in columns.items() if c in boxes)
    print(f"| validation images | {' | '.join(columns.values())} | HD95, px, box: {distances} |")
    print(f"| --- |{' --- |' * (len(columns) + 1)}")
    for name, title in SETS.items():
        paths = {m: out / "val" / m / name / "results.json" for m in METHODS}
        if not paths[method].is_file():
            continue
        found = {m: scores_of(path) for m, path in paths.items() if path.is_file()}
        rows = [_row(found, *column) for column in columns]
        cells = ["–" if row is None else cell(row["dice"]) for row in rows]
        far = [_row(found, *column) for column in boxes]
        cells.append(
            ", ".join(
                "–" if row is None or row["hd95_px"] is None else f"{row['hd95_px']['mean']:.1f}"
                for row in far
            )
        )
        print(f"| {title} | {' | '.join(cells)} |")


def _row(found: dict[str, Scores], method: str, protocol: str) -> dict[str, Any] | None:
    scores = found.get(method) if method in METHODS else next(iter(found.values()))
    own = "" if method in METHODS else method
    return (scores or {}).get((own, protocol))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
