"""Comparison: the rows of many methods on some data sets -> tables and the page that shows them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from samling.evaluation.cost import Cost
from samling.evaluation.metrics import DEFINITIONS
from samling.evaluation.overlays import as_jpeg
from samling.evaluation.paired import Compared, paired_table
from samling.evaluation.report import Block, Picture, Points, Section, Table, Terms, Text
from samling.evaluation.run import Row
from samling.evaluation.statistics import MeanOver, jensen
from samling.evaluation.tables import (
    MEASURES,
    Score,
    automatic,
    clicks_table,
    counts,
    describe,
    details,
    headline,
)


class PublishedFigure(Protocol):
    """A paper's figure; `config.Published` is one."""

    method: str
    source: str
    dice: float
    iou: float | None
    store: str
    prompt: str


@dataclass(frozen=True)
class Compound:
    """Everything found on one data set.

    Args:
        rows: averaged over seeds. spread: (protocol, method) -> SD of the mean Dice over seeds.
        folds: mean Dice of every fold, where a store was measured fold by fold.
        missing: (protocol, method) -> seeds measured and planned, where some are missing.
        costs: by method. damage: change of Dice on damaged pictures, if that was asked for.
        wrong: scores whose mean Dice and mean IoU contradict each other, those of damaged pictures too.
        pictures: title -> PNG.
    """

    store: str
    rows: Sequence[Row]
    scores: Sequence[Score]
    tests: Sequence[Compared]
    spread: Mapping[tuple[str, str], float]
    costs: Mapping[str, Cost]
    damage: Table | None = None
    folds: Table | None = None
    wrong: Sequence[Score] = ()
    missing: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    pictures: Mapping[str, Path] = field(default_factory=dict)


def over_seeds(rows_by_seed: Mapping[int, Sequence[Row]]) -> list[Row]:
    """One row per image, method and protocol: the mean over the seeds that have it."""
    gathered: dict[tuple[str, str, str], list[Row]] = {}
    for rows in rows_by_seed.values():
        for row in rows:
            gathered.setdefault((row.protocol, row.method, row.id), []).append(row)
    return [_mean_row(rows) for rows in gathered.values()]


def counts_over_seeds(
    scores: Sequence[Score], rows_by_seed: Mapping[int, Sequence[Row]]
) -> list[Score]:
    """The scores of `over_seeds` rows, with what is counted in each seed's own answers, then averaged.

    Counting in averaged rows would ask whether the seeds together found a lesion, which none of them did.
    """
    gathered: dict[tuple[str, str], list[dict[str, float]]] = {}
    for rows in rows_by_seed.values():
        divided: dict[tuple[str, str], list[Row]] = {}
        for row in rows:
            divided.setdefault((row.method, row.protocol), []).append(row)
        for key, own in divided.items():
            gathered.setdefault(key, []).append(counts(own))
    found = []
    for score in scores:
        several = gathered[score.method, score.protocol]
        means: dict[str, Any] = {
            name: float(np.mean([one[name] for one in several])) for name in several[0]
        }
        found.append(replace(score, **means))
    return found


def seed_spread(rows_by_seed: Mapping[int, Sequence[Row]]) -> dict[tuple[str, str], float]:
    """(protocol, method) -> standard deviation of the mean Dice from seed to seed, if several."""
    means: dict[tuple[str, str], list[float]] = {}
    for rows in rows_by_seed.values():
        values: dict[tuple[str, str], list[float]] = {}
        for row in rows:
            if row.dice is not None:
                values.setdefault((row.protocol, row.method), []).append(row.dice)
        for key, dice in values.items():
            means.setdefault(key, []).append(float(np.mean(dice)))
    return {key: float(np.std(m, ddof=1)) for key, m in means.items() if len(m) > 1}


def fold_table(rows: Sequence[Row], fold_of: Mapping[str, int]) -> Table | None:
    """Mean Dice of every method in every fold, and its standard deviation over the folds.

    Args:
        fold_of: id -> number of the fold in which it is measured; {} without folds: no table.
    """
    found: dict[tuple[str, str], dict[int, list[float]]] = {}
    for row in rows:
        if row.dice is not None and row.id in fold_of and not row.protocol.startswith("noc"):
            by_fold = found.setdefault((row.protocol, row.method), {})
            by_fold.setdefault(fold_of[row.id], []).append(row.dice)
    if not found:
        return None
    numbers = sorted(set(fold_of.values()))
    lines = []
    for (protocol, method), by_fold in found.items():
        means = [float(np.mean(by_fold[n])) if n in by_fold else None for n in numbers]
        known = [mean for mean in means if mean is not None]
        spread = f"{np.std(known, ddof=1):.4f}" if len(known) > 1 else "–"
        cells = ["–" if mean is None else f"{mean:.3f}" for mean in means]
        lines.append((describe(protocol), method, *cells, spread))
    caption = (
        "Mean Dice over the images of each fold, and its standard deviation from fold to fold: other "
        "training images and other measured ones. The results above count every image once."
    )
    header = ("Prompt", "Method", *(f"Fold {n}" for n in numbers), "SD of folds")
    return Table(header, tuple(lines), caption, text_columns=(0, 1))


def dice_values(rows: Sequence[Row]) -> dict[str, dict[str, list[float]]]:
    """Protocol -> method -> Dice of every counted image, for box plots."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if row.dice is not None and not row.protocol.startswith("noc"):
            found.setdefault(row.protocol, {}).setdefault(row.method, []).append(row.dice)
    return found


def tables(compound: Compound, reference: str, over: MeanOver) -> list[tuple[str, Table]]:
    """Titles and tables of one data set, those that have something to say."""
    scores = compound.scores
    first = headline(scores, reference, over)
    offered = [
        ("Results", _with_spread(first, scores, compound.spread)),
        ("Fold by fold", compound.folds),
        ("Against the others", paired_table(compound.tests, over)),
        ("On damaged pictures", compound.damage),
        ("Clicks", clicks_table(scores, reference, over)),
        ("Without a prompt", automatic(scores)),
        ("Outlines, pixels and lesions", details(scores, reference, over)),
    ]
    note = missing_seeds(compound)
    shown = [(title, _noted(table, note)) for title, table in offered if table is not None]
    cost = cost_table(compound.costs)
    return [*shown, *([("Cost", cost)] if cost else [])]


def missing_seeds(compound: Compound) -> str:
    """Whose means are over fewer seeds than planned, in a sentence; "" if nobody's."""
    short: dict[tuple[str, tuple[int, int]], list[str]] = {}
    for (protocol, method), seeds in compound.missing.items():
        short.setdefault((method, seeds), []).append(protocol)
    said = []
    for (method, (found, planned)), protocols in short.items():
        asked = {score.protocol for score in compound.scores if score.method == method}
        some = "" if asked <= set(protocols) else f" ({', '.join(map(describe, protocols))})"
        said.append(f"{method} {found} of {planned}{some}")
    return f"Seeds that could be measured: {'; '.join(said)}; of the rest all." if said else ""


def _noted(table: Table, note: str) -> Table:
    return replace(table, caption=f"{table.caption} {note}".strip())


def cost_table(costs: Mapping[str, Cost]) -> Table | None:
    """Weights and times by method; None without any."""
    if not costs:
        return None
    header = ["Method", "Weights", "Trained", "GMACs", "Encode ms", "One prompt ms", "p95 ms",
              "First image ms", "Memory MB", "File MB"]  # fmt: skip
    told = any(cost.joules is not None for cost in costs.values())
    rows = tuple(
        (
            method,
            _whole(cost.parameters),
            _whole(cost.trained),
            _tenth(None if cost.macs is None else cost.macs / 1e9),
            f"{cost.encode_ms:.1f}",
            f"{cost.decode_ms:.1f}",
            f"{cost.p95_ms:.1f}",
            f"{cost.cold_ms:.1f}",
            _tenth(cost.memory_mb),
            _tenth(cost.file_mb),
            *([_tenth(cost.joules)] if told else []),
        )
        for method, cost in costs.items()
    )
    warm = next(iter(costs.values())).images
    caption = (
        f"Medians of {warm} images after the first, on the machine named below; what else it was "
        "doing makes times longer. p95: encoding and one prompt together. Memory: most while it runs, "
        "above the loaded model. File: without a base that several share. Exported: name a bundle. "
        + (
            "Joules: energy of an image by the processors' counters."
            if told
            else "Energy: this machine does not tell."
        )
    )
    return Table((*header, *(["Joules"] if told else [])), rows, caption)


def _whole(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _tenth(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def published_table(figures: Sequence[PublishedFigure]) -> Table | None:
    """Figures of papers, with Jensen's check; None without any."""
    if not figures:
        return None
    header = ("Method", "Data", "Prompt", "Dice", "IoU", "Source", "Dice and IoU of one mean")
    rows = tuple(
        (
            figure.method,
            figure.store or "not stated",
            figure.prompt,
            f"{figure.dice:.4f}",
            "–" if figure.iou is None else f"{figure.iou:.4f}",
            figure.source,
            _possible(figure),
        )
        for figure in figures
    )
    caption = "As published: not measured here, on other splits and often with unstated prompts."
    return Table(header, rows, caption, text_columns=(0, 1, 2, 5, 6))


def page(
    parts: Sequence[Compound],
    reference: str,
    over: MeanOver,
    figures: Sequence[PublishedFigure],
    failures: Sequence[str],
    provenance: Sequence[Table],
) -> list[Section]:
    """The report, from the answer to the small print."""
    published = published_table(figures)
    wrong = tuple(contradictions(parts))
    return [
        Section("Figures that cannot be", [Points(wrong)] if wrong else []),
        Section("What could not be measured", [Points(tuple(failures))] if failures else []),
        *(section for part in parts for section in _of_store(part, reference, over)),
        Section("Published figures", [published] if published else []),
        Section("Definitions", [Terms(tuple(DEFINITIONS.items()))]),
        Section("Provenance", provenance),
    ]


def contradictions(parts: Sequence[Compound]) -> list[str]:
    """A sentence for every score that breaks Jensen's bound: an error somewhere, not a result."""
    return [
        f"{score.method} on {part.store}, {describe(score.protocol)}: mean Dice {score.dice.mean:.4f} "
        f"and mean IoU {score.iou.mean:.4f} contradict each other (Jensen's bound). Don't use these "
        "numbers; tell us."
        for part in parts
        for score in part.wrong
        if score.dice and score.iou
    ]


def answer(parts: Sequence[Compound], reference: str) -> str:
    """The best method of each data set under the first protocol, in a sentence each."""
    said = []
    for part in parts:
        first = part.scores[0].protocol if part.scores else ""
        ranked = [score for score in part.scores if score.protocol == first and score.dice]
        ranked.sort(key=lambda score: -(score.dice.mean if score.dice else 0))
        if not ranked or ranked[0].dice is None:
            continue
        best, dice = ranked[0], ranked[0].dice
        said.append(
            f"{part.store}: {best.method} has the highest mean Dice of {len(ranked)} methods, "
            f"{dice.mean:.3f} ({dice.low:.3f} to {dice.high:.3f}, {first})."
        )
    tests = [test for part in parts for test in part.tests]
    clear = sum(test.verdict in ("better", "worse") for test in tests)
    tail = f" Tested against {reference}: {clear} of {len(tests)} differences are clear."
    tail = tail if tests else ""
    return (" ".join(said) or "Nothing could be measured.") + tail


def untested(parts: Sequence[Compound], reference: str) -> list[str]:
    """Sentences: under which prompts nothing is tested, for the reference has no answers there."""
    gaps: dict[tuple[str, ...], list[str]] = {}
    for part in parts:
        methods: dict[str, set[str]] = {}
        for score in part.scores:
            if score.n:
                methods.setdefault(score.protocol, set()).add(score.method)
        lacking = tuple(name for name, those in methods.items() if reference not in those)
        if lacking:
            every = len(lacking) == len(methods)
            gaps.setdefault(() if every else lacking, []).append(part.store)
    return [
        f"{reference} has no answer "
        + (f"under {', '.join(map(describe, lacking))} " if lacking else "")
        + f"on {', '.join(stores)}: there, nothing is tested against it."
        for lacking, stores in gaps.items()
    ]


def _of_store(part: Compound, reference: str, over: MeanOver) -> list[Section]:
    blocks: list[Block] = []
    for title, table in tables(part, reference, over):
        blocks += [Text(f"{title}."), table]
    for title, path in part.pictures.items():
        data = as_jpeg(path) if title == MATRIX else path
        blocks.append(Picture(data, f"{title}, {part.store}", f"{title}. {_CAPTIONS[title]}"))
    return [Section(part.store, blocks)]


BOXES, MATRIX, ROBUSTNESS, COST = "Box plots", "Overlays", "Robustness", "Accuracy against cost"
DAMAGE = "Damaged pictures"
_CAPTIONS = {
    BOXES: "Dice per image. Box: quartiles; line: median; triangle: mean; whiskers: 5th and 95th "
    "percentile; dots: images beyond them.",
    MATRIX: "Image, truth, and the answer of every method (orange) to the same prompt. The images "
    "were drawn by lot, not picked.",
    ROBUSTNESS: "Mean Dice when each side of the box is moved at random by up to so many percent.",
    DAMAGE: "Mean change of Dice, each image against itself, when the picture is as another machine, "
    "setting or export would have given it; level 0 is the picture as it was.",
    COST: "Mean Dice with its 95% interval against the time of one image with one prompt, and against "
    "the size of the file; the area of a dot grows with the number of weights.",
}


def _mean_row(rows: list[Row]) -> Row:
    if len(rows) == 1:
        return rows[0]
    means: dict[str, Any] = {}
    for name in (*MEASURES, "quality", "n_found", "n_false_alarms"):
        values = [getattr(row, name) for row in rows]
        known = [value for value in values if value is not None]
        means[name] = float(np.mean(known)) if len(known) == len(values) else None
    return replace(rows[0], **means)


def _with_spread(
    table: Table, scores: Sequence[Score], spread: Mapping[tuple[str, str], float]
) -> Table:
    if not spread:
        return table
    shown = [score for score in scores if not score.protocol.startswith("noc")]
    cells = [spread.get((score.protocol, score.method)) for score in shown]
    rows = tuple(
        (*row, "–" if cell is None else f"{cell:.4f}")
        for row, cell in zip(table.rows, cells, strict=True)
    )
    caption = f"{table.caption} Means over seeds; SD: of the mean Dice from seed to seed."
    return replace(table, header=(*table.header, "SD of seeds"), rows=rows, caption=caption)


def _possible(figure: PublishedFigure) -> str:
    if figure.iou is None:
        return "–"
    return "possible" if jensen(figure.dice, figure.iou, 0.00005) else "impossible (Jensen)"
