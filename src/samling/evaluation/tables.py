"""Tables: rows of single images -> means with intervals; CSV, Markdown and report tables."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from samling.atomic import atomic_path
from samling.evaluation.metrics import Interval, mean_ci
from samling.evaluation.report import Table
from samling.evaluation.run import Row

PROTOCOL_NAMES = {
    "box": "tight box",
    "jitter": "box, sides moved by up to ±{}%",
    "point": "{} point(s) inside",
    "clicks": "{} clicks, each where it is most wrong",
    "auto": "automatic (no prompt)",
}


@dataclass(frozen=True)
class Score:
    """One method under one protocol.

    Args:
        n: images counted.
        n_skipped: images with an empty label, for protocols that have to point at something.
        dice, iou, hd95_px: means over the counted images; None if there are none.
        hd95_mm: mean over the images with a spacing; None unless all have one.
        dice_lesions: mean Dice over images with a lesion only (as `dice` except in automatic mode).
        n_empty: counted images whose label is empty.
        n_empty_right: those of them where the prediction is empty too.
    """

    method: str
    protocol: str
    n: int
    n_skipped: int
    dice: Interval | None
    iou: Interval | None
    hd95_px: Interval | None
    hd95_mm: float | None
    dice_lesions: float | None
    n_empty: int
    n_empty_right: int
    n_lesions: int
    n_found: int
    n_false_alarms: int


def summarise(rows: Iterable[Row], seed: int = 0) -> list[Score]:
    """One score per protocol and method, in order of their first row, protocol by protocol."""
    divided: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        divided.setdefault((row.protocol, row.method), []).append(row)
    protocols = list(dict.fromkeys(protocol for protocol, _ in divided))
    order = sorted(divided, key=lambda key: protocols.index(key[0]))
    return [_score(divided[key], seed) for key in order]


def by_category(rows: Sequence[Row], method: str, seed: int = 0) -> dict[str, list[Score]]:
    """Scores of one method, divided by category; {} if there is only one."""
    own = [row for row in rows if row.method == method]
    names = sorted({row.category for row in own})
    if len(names) < 2:
        return {}
    return {
        name or "unknown": summarise((row for row in own if row.category == name), seed)
        for name in names
    }


def _score(rows: list[Row], seed: int) -> Score:
    counted = [row for row in rows if row.counted]
    empty = [row for row in counted if not row.n_label_objects]
    with_lesion = [row.dice for row in counted if row.n_label_objects and row.dice is not None]
    in_mm = [row.hd95_mm for row in counted if row.hd95_mm is not None]
    return Score(
        method=rows[0].method,
        protocol=rows[0].protocol,
        n=len(counted),
        n_skipped=len(rows) - len(counted),
        dice=_interval(counted, "dice", seed),
        iou=_interval(counted, "iou", seed),
        hd95_px=_interval(counted, "hd95_px", seed),
        hd95_mm=sum(in_mm) / len(in_mm) if in_mm and len(in_mm) == len(counted) else None,
        dice_lesions=sum(with_lesion) / len(with_lesion) if with_lesion else None,
        n_empty=len(empty),
        n_empty_right=sum(row.dice == 1 for row in empty),
        n_lesions=sum(row.n_label_objects for row in counted),
        n_found=sum(row.n_found for row in counted),
        n_false_alarms=sum(row.n_false_alarms for row in counted),
    )


def _interval(rows: list[Row], name: str, seed: int) -> Interval | None:
    if not rows:
        return None
    return mean_ci([getattr(row, name) for row in rows], [row.group for row in rows], seed)


def describe(protocol: str) -> str:
    """A protocol in words.

    >>> describe("jitter10")
    'box, sides moved by up to ±10%'
    """
    kind = protocol.rstrip("0123456789")
    number = protocol[len(kind) :]
    words = PROTOCOL_NAMES.get(kind, protocol).format(number)
    return words.replace("1 point(s)", "1 point").replace("point(s)", "points")


def headline(scores: Sequence[Score], model: str) -> Table:
    """Every protocol and method; the model's own rows stand out."""
    header: tuple[str, ...] = (
        "Prompt",
        "Method",
        "Dice (95% interval)",
        "IoU",
        "HD95 px",
        "HD95 mm",
        "Images",
    )
    body: list[tuple[str, ...]] = [
        (
            describe(score.protocol),
            score.method,
            _with_interval(score.dice),
            _number(score.iou.mean if score.iou else None, 3),
            _number(score.hd95_px.mean if score.hd95_px else None, 1),
            _number(score.hd95_mm, 2),
            f"{score.n}" + (f" (+{score.n_skipped} empty)" if score.n_skipped else ""),
        )
        for score in scores
    ]
    strong = tuple(i for i, score in enumerate(scores) if score.method == model)
    if all(score.hd95_mm is None for score in scores):
        header, body = header[:5] + header[6:], [row[:5] + row[6:] for row in body]
    return Table(header, tuple(body), strong=strong, text_columns=(0, 1))


def automatic(scores: Sequence[Score]) -> Table | None:
    """Lesions found and missed without a prompt; None if nobody was asked that way."""
    chosen = [score for score in scores if score.protocol == "auto"]
    if not chosen:
        return None
    header = ("Method", "Dice, images with a lesion", "Lesions found", "False alarms per image",
              "Empty images left empty")  # fmt: skip
    body = [
        (
            score.method,
            _number(score.dice_lesions, 3),
            f"{score.n_found} of {score.n_lesions}",
            _number(score.n_false_alarms / score.n if score.n else None, 2),
            f"{score.n_empty_right} of {score.n_empty}",
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


def markdown(table: Table) -> str:
    """A table as GitHub Markdown; numbers to the right, strong rows in bold."""
    lines = [_line(table.header)]
    columns = range(len(table.header))
    lines.append(_line(["---" if i in table.text_columns else "---:" for i in columns]))
    for index, row in enumerate(table.rows):
        cells = [cell.replace("|", "\\|").replace("\n", " ") for cell in row]
        bold = index in table.strong
        lines.append(_line([f"**{cell}**" if bold and cell else cell for cell in cells]))
    return "\n".join(lines) + "\n"


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    """One line per image, method and protocol; values that don't exist are empty."""
    names = [item.name for item in fields(Row)]
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(value) for name, value in asdict(row).items()})


def _cell(value: str | float | bool | None) -> str | int:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else value


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _with_interval(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    return f"{interval.mean:.3f} ({interval.low:.3f}–{interval.high:.3f})"
