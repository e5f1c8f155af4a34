"""calibrate: how far a model's own quality can be trusted, on images that it was not trained on."""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samling.atomic import write_text
from samling.errors import InputError
from samling.evaluation.calibration import (
    covered,
    fit_curve,
    fit_temperature,
    reliability,
    risk_coverage,
)
from samling.evaluation.metrics import dice
from samling.evaluation.plots import draw_reliability, draw_risk
from samling.evaluation.protocols import classes_of, generator, seen_by, truth, union
from samling.inference.bundle import CARD
from samling.inference.expectation import LOOK_BELOW, Calibration
from samling.inference.segmenter import Segmenter
from samling.prompts.sampling import objects, simulate
from samling.recipes.evaluate import check_units, refuse_leaks, split_part

if TYPE_CHECKING:
    from samling.data.case import Case
    from samling.data.store import Store

CARDS = ("adapter.json", "network.json", "base.json", CARD)
PROTOCOLS = {"box": "jitter10", "points": "point1", "automatic": "auto"}
"""As people prompt: nobody's box is tight."""
PIXELS = 2_000
ENOUGH = 20
"""Objects that the coverage is checked on, below which it says little."""
FEWEST = 10
"""Objects of a kind of prompt in the half that fits: a conformal interval of 90 % needs 9, and one more so
that it is not the worst residual alone. With fewer the interval would be 0 to 1, which helps nobody."""
SEED = 0
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Answered:
    """One answer on one image; automatic: all objects together."""

    group: str
    kind: str
    quality: float
    dice: float


@dataclass
class Half:
    """Answers on one half of the groups, and a sample of pixels of the first kind of prompt."""

    objects: list[Answered]
    logits: list[np.ndarray]
    labels: list[np.ndarray]


def calibrate(
    model: Path, store: Path, *, level: float = 0.9, say: Progress = lambda text: None
) -> Path:
    """Fit expected Dice, interval and temperature on half of the validation groups, check on the rest.

    They go into the model's card; calibration.json, calibration.md and two pictures into
    MODEL/calibration. The same command again measures again.

    Args:
        model: folder of a run or bundle; its card is rewritten.
        store: with validation images, from where the model will be used.
        level: share of objects whose Dice shall lie in the interval.

    Raises:
        InputError: no such folder, training images among those to be measured, too few images
            or objects.
    """
    from samling.data.store import Store
    from samling.recipes.load import load

    path = _card_of(model)
    opened = Store.open(store)
    part = split_part(opened, "val", store)
    segmenter = load(model)
    check_units(segmenter.card, opened, part.ids, str(model))
    refuse_leaks(segmenter.card, opened, str(model), part, say)
    opened.neighbours = segmenter.card.slices == 3
    plain = segmenter.card.model_copy(update={"calibration": None})
    fitted, checked = _halves(Segmenter(segmenter.backend, plain), opened, part.ids, say)
    # Of classes told apart, one Dice of all together would be nobody's
    apart = ("automatic",) if plain.answers > 1 else ()
    kinds = [kind for kind in PROTOCOLS if kind in plain.prompts and kind not in apart]
    if not fitted.objects or not checked.objects:
        groups = len({opened.meta(id).group for id in part.ids})
        problem = f"has {groups} groups (patients) of validation images, too few for two halves"
        raise InputError(store, problem, "give a store with more patients")
    found = _fit(fitted, _with_enough(fitted, kinds, level, store, say), level, opened)
    if len(checked.objects) < ENOUGH:
        say(f"checked on {len(checked.objects)} objects alone: too few to trust what it says")
    out = model / "calibration"
    report = _check(found, checked, out)
    plain.model_copy(update={"calibration": found}).save(path)
    write_text(out / "calibration.json", json.dumps(report, indent=2) + "\n")
    write_text(out / "calibration.md", _page(found, report))
    return out / "calibration.md"


def _card_of(model: Path) -> Path:
    for name in CARDS:
        if (model / name).is_file():
            return model / name
    remedy = "name the folder of a run, of a distilled base or of a bundle"
    raise InputError(model, "has no card that could be rewritten", remedy)


def _halves(
    segmenter: Segmenter, store: "Store", ids: Sequence[str], say: Progress
) -> tuple[Half, Half]:
    """Groups in the order of a hash: every other one fits, the rest checks."""
    groups = sorted({store.meta(id).group for id in ids}, key=_order)
    fitting = set(groups[::2])
    halves = {True: Half([], [], []), False: Half([], [], [])}
    for number, id in enumerate(ids, start=1):
        case = store.case(id)
        ask_case(segmenter, case, halves[store.meta(id).group in fitting])
        if number % 25 == 0:
            say(f"{number}/{len(ids)} images")
    return halves[True], halves[False]


def _order(group: str) -> str:
    return hashlib.sha256(f"calibrate {group}".encode()).hexdigest()


def ask_case(segmenter: Segmenter, case: "Case", half: Half) -> None:
    """Ask about one case with every kind of prompt that the model takes; add what it says to `half`."""
    encoded = segmenter.encode(seen_by(segmenter, case))
    label, classes = truth(case), classes_of(case)
    lesions = objects(classes)
    group = case.group or case.id
    sampled = False
    for kind, protocol in PROTOCOLS.items():
        if kind not in segmenter.card.prompts:
            continue
        prompts = simulate(classes, protocol, generator(SEED, case.id, protocol))
        found = segmenter.segment_encoded(encoded, prompts)
        if kind == "automatic":
            if found:  # what is not found is in no table that could say how good it is
                value = dice(label, union(found, label.shape))
                half.objects.append(Answered(group, kind, found[0].certainty(kind), value))
        else:
            half.objects += [
                Answered(group, kind, item.certainty(kind), dice(lesion, item.mask))
                for lesion, item in zip(lesions, found, strict=True)
            ]
        if prompts and not sampled:
            sampled = True
            _sample(segmenter.foreground(encoded, prompts), label, case.id, half)


def _sample(likely: np.ndarray, label: np.ndarray, id: str, half: Half) -> None:
    rng = generator(SEED, id, "pixels")
    places = rng.integers(label.size, size=min(PIXELS, label.size))
    p = likely.ravel()[places].astype(np.float64).clip(1e-7, 1 - 1e-7)
    half.logits.append(np.log(p / (1 - p)))
    half.labels.append(label.ravel()[places])


def _with_enough(
    half: Half, kinds: Sequence[str], level: float, store: Path, say: Progress
) -> list[str]:
    """Kinds of prompt with objects enough for an interval; automatic mode may have found too few.

    Raises:
        InputError: there are too few to ask about, or none of the kinds has enough.
    """
    needed = max(FEWEST, math.ceil(level / (1 - level) - 1e-9))
    counts = {kind: sum(item.kind == kind for item in half.objects) for kind in kinds}
    few = {kind: count for kind, count in counts.items() if count < needed}
    for kind, count in few.items():
        problem = (
            f"{kind}: {count} objects in the half that fits, {needed} are needed for an interval of "
            f"{level:.0%}"
        )
        if kind != "automatic" or len(few) == len(kinds):
            remedy = f"prepare more validation images, with {2 * needed} objects or more in all"
            raise InputError(store, problem, f"{remedy}; without them leave the model as it is")
        say(f"{problem}: no expected Dice without a prompt")
    return [kind for kind in kinds if kind not in few]


def _fit(half: Half, kinds: Sequence[str], level: float, store: "Store") -> Calibration:
    curves = {}
    for kind in kinds:
        own = [item for item in half.objects if item.kind == kind]
        curves[kind] = fit_curve(
            [item.quality for item in own],
            [item.dice for item in own],
            [item.group for item in own],
            level,
        )
    logits, labels = (np.concatenate(v) if v else np.zeros(1) for v in (half.logits, half.labels))
    return Calibration(
        level=level,
        temperature=fit_temperature(logits, labels),
        store=store.name,
        split_hash=store.splits.hash,
        curves=curves,
    )


def _check(found: Calibration, half: Half, out: Path) -> dict[str, object]:
    """Coverage, errors of calibration and risk on the half that fitted nothing; pictures."""
    kinds: dict[str, object] = {}
    diagrams, risks = {}, {}
    for kind, curve in found.curves.items():
        own = [item for item in half.objects if item.kind == kind]
        if not own:
            continue
        quality, values = [o.quality for o in own], [o.dice for o in own]
        expected = [curve.expect(q) for q in quality]
        diagrams[f"expected Dice, {kind}"] = reliability([e.dice for e in expected], values)
        risks[kind] = risk_coverage([e.low for e in expected], values)
        kinds[kind] = {
            "objects": len(own),
            "coverage": covered(curve, quality, values),
            "mean_width": float(np.mean([e.high - e.low for e in expected])),
            "calibration_error": diagrams[f"expected Dice, {kind}"].error,
            "calibration_error_of_quality": reliability(np.clip(quality, 0, 1), values).error,
            "mean_dice": float(np.mean(values)),
            "flagged": float(np.mean([e.look for e in expected])),
            "mean_dice_unflagged": _mean([v for e, v in zip(expected, values, strict=True) if not e.look]),
            "risk_area": float(risks[kind][1].mean()),
        }  # fmt: skip
    pixels = {}
    if half.logits:
        logits, labels = np.concatenate(half.logits), np.concatenate(half.labels)
        for name, t in (("pixels, before", 1.0), ("pixels, after", found.temperature)):
            diagrams[name] = reliability(1 / (1 + np.exp(-logits / t)), labels)
            pixels[name] = diagrams[name].error
    draw_reliability(diagrams, out / "reliability.png")
    draw_risk(risks, out / "risk_coverage.png")
    return {"kinds": kinds, "pixels": pixels} | found.model_dump(mode="json", exclude={"curves"})


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _page(found: Calibration, report: dict[str, object]) -> str:
    lines = [
        f"# Calibration on {found.store}, validation images",
        "",
        f"Fitted on half of the groups, checked on the other half. Interval: {found.level:.0%}. "
        f"Temperature {found.temperature:.2f}. Look: the interval begins below Dice {LOOK_BELOW}.",
        "",
        "| prompt | objects | coverage | mean width | error of expected Dice | of the model's quality "
        "| to look at | Dice of the rest |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    kinds: dict[str, dict[str, float]] = report["kinds"]  # type: ignore[assignment]
    for kind, v in kinds.items():
        rest = "–" if v["mean_dice_unflagged"] is None else f"{v['mean_dice_unflagged']:.3f}"
        lines.append(
            f"| {PROTOCOLS[kind]} | {v['objects']} | {v['coverage']:.3f} | {v['mean_width']:.2f} | "
            f"{v['calibration_error']:.3f} | {v['calibration_error_of_quality']:.3f} | "
            f"{v['flagged']:.0%} | {rest} |"
        )
    pixels: dict[str, float] = report["pixels"]  # type: ignore[assignment]
    lines += ["", *(f"Calibration error of {k}: {v:.4f}." for k, v in pixels.items())]
    lines += ["", "![reliability](reliability.png)", "", "![risk](risk_coverage.png)", ""]
    return "\n".join(lines)
