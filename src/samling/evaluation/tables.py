"""Tables: rows of single images -> means with intervals -> what a report shows."""

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from samling.atomic import atomic_path
from samling.evaluation.damage import divided
from samling.evaluation.metrics import HD95_VARIANT, TOLERANCE_MM, TOLERANCE_PX
from samling.evaluation.protocols import MOST_CLICKS, clicking
from samling.evaluation.report import Table
from samling.evaluation.run import Row
from samling.evaluation.statistics import Interval, MeanOver, jensen, mean_ci

PROTOCOL_NAMES = {
    "box": "tight box",
    "jitter": "box, sides moved by up to ±{}%",
    "point": "{} point(s) inside",
    "clicks": "{} clicks, the first inside, then where it is most wrong",
    "boxclicks": "tight box, then {} click(s) where it is most wrong",
    "noc": "clicks until Dice 0.{}",
    "auto": "automatic (no prompt)",
}


MEASURES = (
    "dice", "iou", "sensitivity", "precision", "area_error", "cross_entropy",
    "hd_px", "hd95_px", "assd_px", "nsd_px", "hd_mm", "hd95_mm", "assd_mm", "nsd_mm", "clicks",
)  # fmt: skip
"""Names that `Row` and `Score` share: a row's value, a score's mean of them with its interval."""


@dataclass(frozen=True)
class Score:
    """One method under one protocol.

    Args:
        n: images counted.
        n_skipped: images with an empty label, for protocols that have to point at something.
        n_empty: counted images whose label is empty.
        n_empty_right: those of them where the prediction is empty too.
        n_reached: images that reached the Dice of `noc`.
            These two, n_found and n_false_alarms are means over the seeds where there are several.
        dice_lesions: mean Dice over images with a lesion only (as `dice` except in automatic mode).
        dice ... clicks: means over the counted images; None if there are none, or unless all of
            them have a value.
    """

    method: str
    protocol: str
    n: int
    n_skipped: int
    n_empty: int
    n_empty_right: float
    n_lesions: int
    n_found: float
    n_false_alarms: float
    n_reached: float = 0
    dice_lesions: Interval | None = None
    dice: Interval | None = None
    iou: Interval | None = None
    sensitivity: Interval | None = None
    precision: Interval | None = None
    area_error: Interval | None = None
    cross_entropy: Interval | None = None
    hd_px: Interval | None = None
    hd95_px: Interval | None = None
    assd_px: Interval | None = None
    nsd_px: Interval | None = None
    hd_mm: Interval | None = None
    hd95_mm: Interval | None = None
    assd_mm: Interval | None = None
    nsd_mm: Interval | None = None
    clicks: Interval | None = None

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Score":
        """A score as results.json has it."""
        read: dict[str, Any] = {
            key: Interval(**value) if isinstance(value, dict) else value
            for key, value in values.items()
        }
        return cls(**read)

    @property
    def consistent(self) -> bool:
        """Jensen's check: whether mean Dice and mean IoU can come from the same images."""
        return self.dice is None or self.iou is None or jensen(self.dice.mean, self.iou.mean)


def summarise(rows: Iterable[Row], seed: int = 0, over: MeanOver = "image") -> list[Score]:
    """One score per protocol and method, in order of their first row, protocol by protocol.

    Args:
        rows: of any number of methods and protocols.
        seed: of the bootstrap.
        over: whether every image or every patient (group) weighs the same.
    """
    divided: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        divided.setdefault((row.protocol, row.method), []).append(row)
    protocols = list(dict.fromkeys(protocol for protocol, _ in divided))
    order = sorted(divided, key=lambda key: protocols.index(key[0]))
    return [_score(divided[key], seed, over) for key in order]


def by_category(
    rows: Sequence[Row], method: str, seed: int = 0, over: MeanOver = "image"
) -> dict[str, list[Score]]:
    """Scores of one method, divided by category; {} if there is only one."""
    own = [row for row in rows if row.method == method]
    names = sorted({row.category for row in own})
    if len(names) < 2:
        return {}
    return {
        name or "unknown": summarise((row for row in own if row.category == name), seed, over)
        for name in names
    }


def _score(rows: list[Row], seed: int, over: MeanOver) -> Score:
    counted = [row for row in rows if row.counted]
    with_lesion = [row for row in counted if row.n_label_objects]
    empty = [row for row in counted if not row.n_label_objects]
    means: dict[str, Any] = {name: _interval(counted, name, seed, over) for name in MEASURES}
    return Score(
        method=rows[0].method,
        protocol=rows[0].protocol,
        n=len(counted),
        n_skipped=len(rows) - len(counted),
        n_empty=len(empty),
        n_lesions=sum(row.n_label_objects for row in counted),
        dice_lesions=_interval(with_lesion, "dice", seed, over),
        **means,
        **counts(rows),
    )


def counts(rows: Sequence[Row]) -> dict[str, Any]:
    """What a score counts in the rows of one method, protocol and seed: its fields `n_...` by name."""
    counted = [row for row in rows if row.counted]
    _, goal = clicking(rows[0].protocol)
    return {
        "n_empty_right": sum(row.dice == 1 for row in counted if not row.n_label_objects),
        "n_found": sum(row.n_found for row in counted),
        "n_false_alarms": sum(row.n_false_alarms for row in counted),
        "n_reached": sum((row.dice or 0) >= goal for row in counted),
    }


def count(number: float) -> str:
    """A count as it is; a mean of counts with one decimal.

    >>> count(12), count(38 / 3)
    ('12', '12.7')
    """
    return f"{number:.0f}" if float(number).is_integer() else f"{number:.1f}"


def _interval(rows: list[Row], name: str, seed: int, over: MeanOver) -> Interval | None:
    values = [getattr(row, name) for row in rows]
    if not values or any(value is None for value in values):
        return None
    return mean_ci(values, [row.group for row in rows], seed, over=over)


def describe(protocol: str) -> str:
    """A protocol in words.

    >>> describe("jitter10")
    'box, sides moved by up to ±10%'
    """
    kind = protocol.rstrip("0123456789")
    number = protocol[len(kind) :]
    words = PROTOCOL_NAMES.get(kind, protocol).format(number)
    return words.replace("(s)", "" if number == "1" else "s")


def headline(scores: Sequence[Score], model: str, over: MeanOver = "image") -> Table:
    """Every protocol but `noc`, and every method; the model's own rows stand out."""
    columns: list[tuple[str, Callable[[Score], str]]] = [
        ("Prompt", lambda score: describe(score.protocol)),
        ("Method", lambda score: score.method),
        ("Dice (95% interval)", lambda score: _with_interval(score.dice)),
        ("IoU", lambda score: _mean(score.iou, 3)),
        ("HD95 px", lambda score: _mean(score.hd95_px, 1)),
        ("HD95 mm", lambda score: _mean(score.hd95_mm, 2)),
        ("Images", _images),
    ]
    if all(score.hd95_mm is None for score in scores):
        columns = [column for column in columns if column[0] != "HD95 mm"]
    caption = f"{means_are(over)} HD95: {HD95_VARIANT}."
    return _table(columns, _clicked_out(scores), model, caption)


def details(scores: Sequence[Score], model: str, over: MeanOver = "image") -> Table:
    """The other metrics: kinds of error, outlines, probabilities, lesions one by one."""
    columns: list[tuple[str, Callable[[Score], str]]] = [
        ("Prompt", lambda score: describe(score.protocol)),
        ("Method", lambda score: score.method),
        ("Sensitivity", lambda score: _mean(score.sensitivity, 3)),
        ("Precision", lambda score: _mean(score.precision, 3)),
        ("Area error", lambda score: _mean(score.area_error, 3, sign=True)),
        ("HD px", lambda score: _mean(score.hd_px, 1)),
        ("ASSD px", lambda score: _mean(score.assd_px, 2)),
        (f"NSD {TOLERANCE_PX:g} px", lambda score: _mean(score.nsd_px, 3)),
        ("ASSD mm", lambda score: _mean(score.assd_mm, 2)),
        (f"NSD {TOLERANCE_MM:g} mm", lambda score: _mean(score.nsd_mm, 3)),
        ("BCE", lambda score: _mean(score.cross_entropy, 3)),
        ("Lesions found", lambda score: f"{count(score.n_found)} of {score.n_lesions}"),
        ("False alarms per image", lambda score: _number(_alarms(score), 2)),
    ]
    if all(score.hd95_mm is None for score in scores):
        columns = [column for column in columns if not column[0].endswith(" mm")]
    return _table(columns, _clicked_out(scores), model, means_are(over))


def undamaged(scores: Sequence[Score]) -> list[Score]:
    """Those of pictures as they were."""
    return [score for score in scores if not divided(score.protocol)[1]]


def clicks_table(scores: Sequence[Score], model: str, over: MeanOver = "image") -> Table | None:
    """How many clicks a Dice takes; None if nobody was asked that."""
    columns: list[tuple[str, Callable[[Score], str]]] = [
        ("Prompt", lambda score: describe(score.protocol)),
        ("Method", lambda score: score.method),
        ("Clicks (95% interval)", lambda score: _with_interval(score.clicks, 2)),
        ("Reached", lambda score: f"{count(score.n_reached)} of {score.n}"),
    ]
    asked = [score for score in scores if score.protocol.startswith("noc")]
    caption = f"{means_are(over)} An image that is not reached counts as {MOST_CLICKS} clicks."
    return _table(columns, asked, model, caption) if asked else None


def means_are(over: MeanOver) -> str:
    """What the means are over, for captions."""
    return f"Means over {over}s; intervals over patients (groups)."


def _table(
    columns: Sequence[tuple[str, Callable[[Score], str]]],
    scores: Sequence[Score],
    model: str,
    caption: str,
) -> Table:
    rows = tuple(tuple(cell(score) for _, cell in columns) for score in scores)
    strong = tuple(i for i, score in enumerate(scores) if score.method == model)
    header = tuple(name for name, _ in columns)
    return Table(header, rows, caption, strong=strong, text_columns=(0, 1))


def _clicked_out(scores: Sequence[Score]) -> list[Score]:
    """Without `noc`: a Dice that clicking stopped at says nothing."""
    return [score for score in scores if not score.protocol.startswith("noc")]


def _images(score: Score) -> str:
    return f"{score.n}" + (f" (+{score.n_skipped} empty)" if score.n_skipped else "")


def _alarms(score: Score) -> float | None:
    return score.n_false_alarms / score.n if score.n else None


def automatic(scores: Sequence[Score]) -> Table | None:
    """Lesions found and missed without a prompt; None if nobody was asked that way."""
    chosen = [score for score in scores if score.protocol == "auto"]
    if not chosen:
        return None
    header = (
        "Method",
        "Dice (95% interval), images with a lesion",
        "Lesions found",
        "False alarms per image",
        "Empty images left empty",
    )
    body = [
        (
            score.method,
            _with_interval(score.dice_lesions),
            f"{count(score.n_found)} of {score.n_lesions}",
            _number(_alarms(score), 2),
            f"{count(score.n_empty_right)} of {score.n_empty}",
        )
        for score in chosen
    ]
    return Table(header, tuple(body), text_columns=(0,))


def category_table(divided: dict[str, list[Score]]) -> Table | None:
    """Dice of one method by category and protocol; None without categories."""
    if not divided:
        return None
    protocols = list(dict.fromkeys(s.protocol for scores in divided.values() for s in scores))
    body = []
    for name, scores in divided.items():
        found = {score.protocol: score for score in scores}
        images = max((s.n + s.n_skipped for s in scores), default=0)
        cells = [_with_interval(found[p].dice if p in found else None) for p in protocols]
        body.append((name, str(images), *cells))
    header = ("Category", "Images", *(f"Dice, {describe(p)}" for p in protocols))
    return Table(header, tuple(body), text_columns=(0,))


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    """One line per image, method and protocol; values that don't exist are empty."""
    write_values(path, [item.name for item in fields(Row)], (asdict(row) for row in rows))


def write_values(path: Path, names: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """CSV with these columns, whole or not at all."""
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(value) for name, value in row.items()})


def _cell(value: str | float | bool | None) -> str | int:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else value


def _mean(interval: Interval | None, digits: int, *, sign: bool = False) -> str:
    if interval is None:
        return "–"
    return f"{interval.mean:{'+' if sign else ''}.{digits}f}"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _with_interval(interval: Interval | None, digits: int = 3) -> str:
    if interval is None:
        return "–"
    if interval.low == interval.high:  # one patient, or one value: nothing that could be resampled
        return f"{interval.mean:.{digits}f}"
    low, high = f"{interval.low:.{digits}f}", f"{interval.high:.{digits}f}"
    return f"{interval.mean:.{digits}f} ({low}–{high})"
