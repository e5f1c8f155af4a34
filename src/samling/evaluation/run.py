"""Run: a segmenter over the cases of a validation or test split, one row per image and protocol."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from samling.data.case import Case
from samling.data.splits import TestSplit, ValSplit
from samling.evaluation.baselines import GEOMETRIC, baseline
from samling.evaluation.damage import damaged, divided
from samling.evaluation.metrics import (
    TOLERANCE_MM,
    TOLERANCE_PX,
    area_error,
    cross_entropy,
    dice,
    findings,
    iou,
    precision,
    sensitivity,
)
from samling.evaluation.protocols import (
    Answer,
    Asked,
    E,
    ask,
    generator,
    kinds_of,
    seen_by,
    truth,
)
from samling.evaluation.surface import surface_distances
from samling.prompts.sampling import components

Progress = Callable[[str], None]
Seen = Callable[[Case, str, Answer], None]
BoolArray = NDArray[np.bool_]
REPORT_EVERY_SECONDS = 10.0


class Cases(Protocol):
    """Where cases come from; `data.store.Store` is one."""

    def case(self, id: str) -> Case:
        """The case of this id, with labels."""
        ...


@dataclass(frozen=True)
class Row:
    """One image, one method, one prompt protocol.

    Args:
        counted: False if the label is empty and the protocol has to point at something: then all
            scores are None.
        cross_entropy: None if the method gives no probabilities.
        hd_px, hd95_px, assd_px, nsd_px: distances between the outlines, see `surface`; ..._mm: None
            if the case has no spacing.
        clicks: how many `noc` took; None for other protocols.
        quality: mean predicted IoU of the objects; None for baselines and if nothing was found.
        n_label_objects: connected regions of the label.
        n_found: how many of them were found; see `metrics.DEFINITIONS`.
        n_false_alarms: predicted regions that are no lesion.
    """

    id: str
    group: str
    category: str
    method: str
    protocol: str
    counted: bool
    n_label_objects: int
    dice: float | None = None
    iou: float | None = None
    sensitivity: float | None = None
    precision: float | None = None
    area_error: float | None = None
    cross_entropy: float | None = None
    hd_px: float | None = None
    hd95_px: float | None = None
    assd_px: float | None = None
    nsd_px: float | None = None
    hd_mm: float | None = None
    hd95_mm: float | None = None
    assd_mm: float | None = None
    nsd_mm: float | None = None
    clicks: float | None = None
    quality: float | None = None
    n_found: float = 0
    n_false_alarms: float = 0


def evaluate_segmenter(
    segmenter: Asked[E],
    store: Cases,
    split: ValSplit | TestSplit,
    protocols: Sequence[str],
    seed: int = 0,
    *,
    method: str = "",
    progress: Progress = lambda message: None,
    seen: Seen = lambda case, protocol, answer: None,
) -> list[Row]:
    """Measure a segmenter: each image is encoded once (and once per damage, see `damage`).

    Args:
        store: the cases, with labels.
        split: which of them; never training cases.
        protocols: names, see `prompts.sampling`; the model must take their kinds of prompt.
        seed: of jitter and points; the prompts of an image depend on this and its id alone.
        method: name in the rows; the card's name if empty.
        seen: told every answer, before it is thrown away.

    Raises:
        TypeError: the split is neither a validation nor a test split.
        InputError: unknown protocol, or a prompt of a kind that the model lacks.
    """
    name = method or segmenter.card.name

    def rows_of(case: Case) -> list[Row]:
        image = seen_by(segmenter, case)
        rows = []
        before = None
        for kind in protocols:
            asked, damage = divided(kind)
            if damage != before:
                rng = generator(seed, case.id, damage[:-1])  # for all levels: a shadow widens
                encoded = segmenter.encode(damaged(image, damage, rng))
                before = damage
            answer = ask(segmenter, encoded, case, asked, seed)
            rows.append(row_of(case, name, kind, answer))
            if answer is not None:
                seen(case, kind, answer)
                likely = segmenter.foreground(encoded, answer.prompts)
                rows[-1] = rows[-1] if likely is None else _with_entropy(rows[-1], case, likely)
        return rows

    for protocol in protocols:
        kinds_of(protocol)
    protocols = sorted(protocols, key=lambda protocol: divided(protocol)[1])  # encode each once
    return _over(store, split, rows_of, name, progress)


def evaluate_baselines(
    store: Cases, split: ValSplit | TestSplit, protocols: Sequence[str], seed: int = 0
) -> list[Row]:
    """The rows that need no model, for those of the protocols that give a box alone."""
    boxed = [protocol for protocol in protocols if kinds_of(protocol) == ("box",)]
    rows = []
    for name in GEOMETRIC if boxed else ():
        rows += evaluate_segmenter(baseline(name), store, split, boxed, seed)
    return rows


def row_of(case: Case, method: str, protocol: str, answer: Answer | None) -> Row:
    """Compare an answer with the case's label; no answer: the image doesn't count."""
    label = truth(case)
    lesions = components(label)
    group = case.group or case.id
    row = Row(case.id, group, case.category, method, protocol, answer is not None, len(lesions))
    return row if answer is None else _scored(row, case, label, lesions, answer)


def _scored(
    row: Row, case: Case, label: BoolArray, lesions: list[BoolArray], answer: Answer
) -> Row:
    counted = findings(lesions, components(answer.mask))
    return replace(
        row,
        dice=dice(label, answer.mask),
        iou=iou(label, answer.mask),
        sensitivity=sensitivity(label, answer.mask),
        precision=precision(label, answer.mask),
        area_error=area_error(label, answer.mask),
        quality=answer.quality,
        clicks=answer.clicks,
        n_found=counted.found,
        n_false_alarms=counted.false_alarms,
        **_distances(label, answer.mask, None, "px", TOLERANCE_PX),
        **(
            {}
            if case.spacing_mm is None
            else _distances(label, answer.mask, case.spacing_mm, "mm", TOLERANCE_MM)
        ),
    )


def _distances(
    label: BoolArray,
    predicted: BoolArray,
    spacing: tuple[float, ...] | None,
    unit: str,
    tolerance: float,
) -> dict[str, Any]:
    found = surface_distances(label, predicted, spacing)
    return {
        f"hd_{unit}": found.maximum,
        f"hd95_{unit}": found.percentile95,
        f"assd_{unit}": found.mean,
        f"nsd_{unit}": found.within(tolerance),
    }


def _with_entropy(row: Row, case: Case, likely: NDArray[np.float32]) -> Row:
    return replace(row, cross_entropy=cross_entropy(truth(case), likely))


def _over(
    store: Cases,
    split: ValSplit | TestSplit,
    rows_of: Callable[[Case], Iterable[Row]],
    name: str,
    progress: Progress,
) -> list[Row]:
    if not isinstance(split, ValSplit | TestSplit):
        raise TypeError(f"only a ValSplit or a TestSplit is evaluated, got {type(split).__name__}")
    rows: list[Row] = []
    started = reported = time.perf_counter()
    for done, case_id in enumerate(split.ids, start=1):
        case = store.case(case_id)
        rows += rows_of(case) if case.labels is not None else []
        now = time.perf_counter()
        last = done == len(split.ids)
        if last or now - reported > REPORT_EVERY_SECONDS:
            reported = now
            speed = done / max(now - started, 1e-9)
            left = "" if last else f", {(len(split.ids) - done) / speed:.0f} s left"
            progress(f"{name}: {done}/{len(split.ids)} images, {speed:.3g} images/s{left}")
    return rows
