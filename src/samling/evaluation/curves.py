"""Curves: loss and validation scores over the epochs of a run, as a picture."""

import json
from pathlib import Path
from typing import Any

from samling.atomic import atomic_path
from samling.errors import InputError

# Okabe and Ito's colours: told apart by colour-blind readers; markers differ as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = "os^Dv*P"
_NAMES = {
    "auto": "automatic",
    "box": "tight box",
    "boxclicks3": "tight box, 3 clicks",
    "point1": "1 point",
}
_SUMMARY = "score"


def draw_curves(metrics: str | Path, picture: str | Path) -> Path | None:
    """Draw metrics.jsonl: loss terms on the left, validation Dice per prompt on the right.

    Returns:
        The picture's path, or None if no epoch has finished yet.

    Raises:
        InputError: the file is missing or not as samling writes it.
    """
    rows = _read(Path(metrics))
    if not rows:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _draw(left, rows, "train", first="total")
    left.set(title="Loss on training images", xlabel="epoch", ylabel="loss (log scale)")
    if all(value > 0 for row in rows for value in row["train"].values()):
        left.set_yscale("log")
    else:
        left.set_ylabel("loss")
    _draw(right, rows, "val", first="box")
    right.set(title="Dice on validation images", xlabel="epoch", ylabel="mean Dice")
    _mark_best(right, rows)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=9, ncols=2)
    with atomic_path(picture) as temporary:
        figure.savefig(temporary, format="png")
    return Path(picture)


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
        return [
            {"epoch": int(row["epoch"]), "train": row.get("train", {}), "val": row.get("val", {})}
            for row in rows
        ]
    except FileNotFoundError:
        raise InputError(path, "does not exist", "give the metrics.jsonl of a run") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(path, "is not a metrics.jsonl", "give the one of a run") from None


def _draw(axes: Any, rows: list[dict[str, Any]], part: str, first: str) -> None:
    names = sorted({name for row in rows for name in row[part] if name != _SUMMARY})
    names.sort(key=lambda name: name != first)
    for number, name in enumerate(names):
        points = [(row["epoch"], row[part][name]) for row in rows if name in row[part]]
        axes.plot(
            *zip(*points, strict=True),
            label=_NAMES.get(name, name),
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            markersize=4,
            linewidth=2.2 if name == first else 1.4,
        )


def _mark_best(axes: Any, rows: list[dict[str, Any]]) -> None:
    scored = [(row["val"][_SUMMARY], -row["epoch"]) for row in rows if _SUMMARY in row["val"]]
    if not scored or len(rows) < 2:
        return
    best = -max(scored)[1]
    axes.axvline(best, color="0.5", linestyle=":", linewidth=1.2, label=f"kept: epoch {best}")
