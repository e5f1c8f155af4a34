"""Run: a segmenter over the cases of a validation or test split, one row per image and protocol."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from samling.data.case import Case
from samling.data.splits import TestSplit, ValSplit
from samling.evaluation.baselines import BASELINES
from samling.evaluation.metrics import dice, findings, hausdorff, iou
from samling.evaluation.protocols import Answer, Asked, E, ask, generator, kind_of, truth
from samling.prompts.sampling import components, simulate

Progress = Callable[[str], None]
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
        hd95_mm: None if the case has no spacing.
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
    hd_px: float | None = None
    hd95_px: float | None = None
    hd95_mm: float | None = None
    quality: float | None = None
    n_found: int = 0
    n_false_alarms: int = 0


def evaluate_segmenter(
    segmenter: Asked[E],
    store: Cases,
    split: ValSplit | TestSplit,
    protocols: Sequence[str],
    seed: int = 0,
    *,
    method: str = "",
    progress: Progress = lambda message: None,
) -> list[Row]:
    """Measure a segmenter: each image is encoded once and decoded for every protocol.

    Args:
        store: the cases, with labels.
        split: which of them; never training cases.
        protocols: names, see `prompts.sampling`; the model must take their kinds of prompt.
        seed: of jitter and points; the prompts of an image depend on this and its id alone.
        method: name in the rows; the card's name if empty.

    Raises:
        TypeError: the split is neither a validation nor a test split.
        InputError: unknown protocol, or a prompt of a kind that the model lacks.
    """
    name = method or segmenter.card.name

    def rows_of(case: Case) -> list[Row]:
        encoded = segmenter.encode(case.image)
        answers = {kind: ask(segmenter, encoded, case, kind, seed) for kind in protocols}
        return [row_of(case, name, kind, answer) for kind, answer in answers.items()]

    for protocol in protocols:
        kind_of(protocol)
    return _over(store, split, rows_of, name, progress)


def evaluate_baselines(
    store: Cases, split: ValSplit | TestSplit, protocols: Sequence[str], seed: int = 0
) -> list[Row]:
    """The rows that need no model, for those of the protocols that give a box."""
    boxed = [protocol for protocol in protocols if kind_of(protocol) == "box"]

    def rows_of(case: Case) -> list[Row]:
        rows = []
        for protocol in boxed:
            rng = generator(seed, case.id, protocol)
            prompts = simulate(truth(case), protocol, rng)
            for name, baseline in BASELINES.items():
                mask = baseline(prompts, truth(case).shape) if prompts else None
                answer = None if mask is None else Answer(tuple(prompts), (), mask)
                rows.append(row_of(case, name, protocol, answer))
        return rows

    return _over(store, split, rows_of, "baselines", lambda message: None) if boxed else []


def row_of(case: Case, method: str, protocol: str, answer: Answer | None) -> Row:
    """Compare an answer with the case's label; no answer: the image doesn't count."""
    label = truth(case)
    lesions = components(label)
    group = case.group or case.id
    row = Row(case.id, group, case.category, method, protocol, answer is not None, len(lesions))
    return row if answer is None else _scored(row, case, label, lesions, answer)


def _scored(
    row: Row,
    case: Case,
    label: NDArray[np.bool_],
    lesions: list[NDArray[np.bool_]],
    answer: Answer,
) -> Row:
    distance = hausdorff(label, answer.mask)
    counted = findings(lesions, components(answer.mask))
    in_mm = None
    if case.spacing_mm is not None:
        in_mm = hausdorff(label, answer.mask, case.spacing_mm).percentile95
    return replace(
        row,
        dice=dice(label, answer.mask),
        iou=iou(label, answer.mask),
        hd_px=distance.maximum,
        hd95_px=distance.percentile95,
        hd95_mm=in_mm,
        quality=answer.quality,
        n_found=counted.found,
        n_false_alarms=counted.false_alarms,
    )


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
        rows += rows_of(store.case(case_id))
        now = time.perf_counter()
        last = done == len(split.ids)
        if last or now - reported > REPORT_EVERY_SECONDS:
            reported = now
            speed = done / max(now - started, 1e-9)
            left = "" if last else f", {(len(split.ids) - done) / speed:.0f} s left"
            progress(f"{name}: {done}/{len(split.ids)} images, {speed:.3g} images/s{left}")
    return rows
