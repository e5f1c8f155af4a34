"""calibration_report: whether what is fitted to a half holds on the other, in figures, words, pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samling.evaluation.calibration import Coverage, covered, reliability, risk_coverage
from samling.evaluation.plots import draw_reliability, draw_risk
from samling.inference.expectation import LOOK_BELOW, NOTHING, RARE, Calibration, Expected

PROTOCOLS = {"box": "jitter10", "points": "point1", "automatic": "auto"}
"""As people prompt: nobody's box is tight."""
NAMES = PROTOCOLS | {NOTHING: "auto, nothing found"}
BEFORE, AFTER = "pixels, before", "pixels, after"
ENOUGH = 20
"""Objects of a kind of prompt that its coverage is checked on, below which it says little."""


@dataclass(frozen=True)
class Answered:
    """One answer on one image; automatic: all objects together; `NOTHING`: that there is none.

    Args:
        store: name of the data set. group: patient, no two stores share one.
        lesions: that the image holds, for `NOTHING`.
    """

    store: str
    group: str
    kind: str
    quality: float
    dice: float
    lesions: int = 0


@dataclass
class Half:
    """Answers on one half of the groups, and a sample of pixels of one kind of prompt."""

    answers: list[Answered]
    logits: list[np.ndarray]
    labels: list[np.ndarray]

    def of(self, kind: str) -> list[Answered]:
        """The answers to one kind of prompt."""
        return [item for item in self.answers if item.kind == kind]


Check = tuple[Calibration, Half]
"""What was fitted to one half of the groups, and the other half."""
Judged = tuple[Answered, Expected]


def check(found: Calibration, checks: Sequence[Check], out: Path) -> dict[str, Any]:
    """Coverage, errors of calibration and risk, each half judged by the other; two pictures.

    Args:
        found: what is to be promised, fitted to all groups.
        checks: both ways, so that every answer is judged by what has not seen its group (of images where
            nothing was found those of a half whose other half has enough).

    Returns:
        What calibration.json holds; `kinds` by name, each with `installed`: whether it may be promised.
    """
    kinds, diagrams, risks = {}, {}, {}
    for kind in found.curves:
        own = _judged(checks, kind)
        kinds[kind] = _of_kind(kind, own, found.level)
        if own and kind != NOTHING:
            expected = [e for _, e in own]
            values = [item.dice for item, _ in own]
            name = f"expected Dice, {kind}"
            diagrams[name] = reliability([e.dice for e in expected], values)
            risks[kind] = risk_coverage([e.low for e in expected], values)
            kinds[kind] |= {
                "calibration_error": diagrams[name].error,
                "calibration_error_of_quality": _error([item.quality for item, _ in own], values),
                "risk_area": float(risks[kind][1].mean()),
            }
    pixels = {}
    seen = [(fit, half) for fit, half in checks if half.labels]
    labels = [np.concatenate(half.labels) for _, half in seen]
    for name, power in ((BEFORE, 0), (AFTER, 1)) if seen else ():
        likely = [
            1 / (1 + np.exp(-np.concatenate(half.logits) / fit.temperature**power))
            for fit, half in seen
        ]
        diagrams[name] = reliability(np.concatenate(likely), np.concatenate(labels))
        # Half by half: too sure in one must not make up for too unsure in the other
        errors = [reliability(p, truth).error for p, truth in zip(likely, labels, strict=True)]
        pixels[name] = float(np.average(errors, weights=[len(truth) for truth in labels]))
    draw_reliability(diagrams, out / "reliability.png")
    draw_risk(risks, out / "risk_coverage.png")
    about: dict[str, Any] = found.model_dump(mode="json", exclude={"curves"})
    # of pixels that it did not see: what does not help there is not used
    about["temperature_installed"] = bool(pixels) and pixels[AFTER] < pixels[BEFORE]
    sets = _by_store(found, checks)
    _refuse_by_store(kinds, sets, found.level)
    nothing = _missed([item for _, half in checks for item in half.answers])
    return {"kinds": kinds, "stores": sets, "nothing_found": nothing, "pixels": pixels} | about


def _judged(checks: Sequence[Check], kind: str) -> list[Judged]:
    """The answers to one kind of prompt, each with what the other half expects of it."""
    return [
        (item, curve.expect(item.quality))
        for fit, half in checks
        if (curve := fit.curves.get(kind)) is not None
        for item in half.of(kind)
    ]


def _of_kind(kind: str, own: Sequence[Judged], level: float) -> dict[str, Any]:
    if not own:
        verdict = f"{NAMES[kind]}: too few answers in either half to check it: not installed."
        return {"objects": 0, "installed": False, "verdict": verdict}
    values = [item.dice for item, _ in own]
    expected = [e for _, e in own]
    coverage = covered(expected, values)
    rest = [value for value, e in zip(values, expected, strict=True) if not e.look]
    return _figures(coverage) | {
        "installed": coverage.bounds[1] >= level and (kind != NOTHING or coverage.of >= ENOUGH),
        "verdict": _verdict(kind, coverage, level),
        "mean_width": float(np.mean([e.high - e.low for e in expected])),
        "mean_dice": float(np.mean(values)),
        "flagged": float(np.mean([e.look for e in expected])),
        "mean_dice_unflagged": float(np.mean(rest)) if rest else None,
    }


def _figures(coverage: Coverage) -> dict[str, Any]:
    low, high = coverage.bounds
    share = coverage.share
    return {"objects": coverage.of, "coverage": share, "coverage_low": low, "coverage_high": high}


def _verdict(kind: str, coverage: Coverage, level: float) -> str:
    """What to think of a coverage; "" where there is nothing to say."""
    low, high = coverage.bounds
    said = f"{NAMES[kind]}: coverage {coverage.share:.3f} ({low:.2f}-{high:.2f}) of nominal {level:.2f}"
    if high < level:
        return f"{said}: do not rely on it; not installed."
    if coverage.of < ENOUGH and kind == NOTHING:
        return f"{said}: checked on {coverage.of} alone; not installed, such images are to be looked at."
    if coverage.of < ENOUGH:
        return f"{said}: checked on {coverage.of} alone, too few to trust what it says."
    wide = low > level and kind != NOTHING  # right or wrong as a whole: there 0 to 1 is no fault
    return f"{said}: the intervals are wider than they need be." if wide else ""


def _by_store(found: Calibration, checks: Sequence[Check]) -> dict[str, dict[str, Any]]:
    """The same coverage in each data set alone, where there are several."""
    names = dict.fromkeys(item.store for _, half in checks for item in half.answers)
    sets: dict[str, dict[str, Any]] = {name: {} for name in names if len(names) > 1}
    for kind in found.curves:
        judged = _judged(checks, kind)
        for name, kinds in sets.items():
            if own := [(item, e) for item, e in judged if item.store == name]:
                kinds[kind] = _figures(covered([e for _, e in own], [item.dice for item, _ in own]))
    return sets


def _refuse_by_store(
    kinds: dict[str, dict[str, Any]], sets: dict[str, dict[str, Any]], level: float
) -> None:
    """What does not hold in one of the data sets is not promised: nobody sees which one he is like."""
    for kind, said in kinds.items():
        low = [name for name, own in sets.items() if _too_low(own.get(kind), level)]
        if said["installed"] and low and kind != NOTHING:
            said["installed"] = False
            said["verdict"] = f"{NAMES[kind]}: too low in {', '.join(low)}, not installed."


def _too_low(figures: dict[str, Any] | None, level: float) -> bool:
    """Whether a coverage is below what is promised, with 95 % certainty."""
    return figures is not None and figures["coverage_high"] < level


def _missed(answers: Sequence[Answered]) -> dict[str, int]:
    """Automatic mode: images, those where nothing was found, and what these hold."""
    silent = [item for item in answers if item.kind == NOTHING]
    return {
        "asked": len(silent) + sum(item.kind == "automatic" for item in answers),
        "nothing_found": len(silent),
        "with_a_lesion": sum(item.lesions > 0 for item in silent),
        "lesions_missed": sum(item.lesions for item in silent),
    }


def sentences(report: dict[str, Any]) -> list[str]:
    """What a person must read before trusting what was fitted."""
    said = [kind["verdict"] for kind in report["kinds"].values() if kind["verdict"]]
    for kind, v in report["kinds"].items():
        error, own = v.get("calibration_error", 0), v.get("calibration_error_of_quality", 0)
        if v["installed"] and round(error, 3) > round(own, 3):
            said.append(
                f"{NAMES[kind]}: in the check expected Dice was off by {error:.3f} on average, the "
                f"model's own quality by {own:.3f}: more images may help."
            )
    for name, kinds in report["stores"].items():
        said += [] if kinds else [f"{name}: nothing of it could be checked."]
        said += [
            f"{NAMES[kind]} in {name} alone: coverage {v['coverage']:.3f} "
            f"({v['coverage_low']:.2f}-{v['coverage_high']:.2f}): do not rely on it there."
            for kind, v in kinds.items()
            if _too_low(v, report["level"])
        ]
    if report["pixels"] and not report["temperature_installed"]:
        said.append("A temperature of one half does not help on the other: not installed.")
    missed = report["nothing_found"]
    if missed["nothing_found"]:
        said.append(
            f"Automatic mode found nothing on {missed['nothing_found']} of {missed['asked']} images; "
            f"{missed['with_a_lesion']} of these hold {missed['lesions_missed']} lesions, missed "
            "without a mask that could be flagged."
        )
    return said


def page(report: dict[str, Any], first: str) -> str:
    """calibration.md; `first` is the kind of prompt that the temperature belongs to."""
    level = report["level"]
    several = " They hold for images mixed as these are, not for each set." * bool(report["stores"])
    lines = [
        f"# Calibration on {report['store'].replace('+', ', ')}, validation images",
        "",
        "Fitted to all groups; checked in two halves, each by what was fitted to the other. "
        f"Intervals of {level:.0%}.{several} "
        f"Temperature {report['temperature']:.2f}, of {first} prompts alone. Look: the interval begins "
        f"below Dice {LOOK_BELOW}, or quality is below that of {1 - RARE:.0%} of the objects fitted to.",
        "",
        *(f"- {text}" for text in sentences(report)),
        "",
        "| prompt | objects | coverage (95 % of the binomial) | mean width | error of expected Dice | "
        "of the model's quality | to look at | Dice of the rest | installed |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_line(kind, v) for kind, v in report["kinds"].items() if v["objects"]),
    ]
    if report["stores"]:
        lines += ["", "| set | prompt | objects | coverage (95 % of the binomial) |"]
        lines += ["| --- | --- | --- | --- |"]
    lines += [
        f"| {name} | {NAMES[kind]} | {v['objects']} | {_coverage(v)} |"
        for name, kinds in report["stores"].items()
        for kind, v in kinds.items()
    ]
    lines += ["", *(f"Calibration error of {k}: {v:.4f}." for k, v in report["pixels"].items())]
    lines += ["", "![reliability](reliability.png)", "", "![risk](risk_coverage.png)", ""]
    return "\n".join(lines)


def _line(kind: str, v: dict[str, Any]) -> str:
    cells = [NAMES[kind], v["objects"], _coverage(v), f"{v['mean_width']:.2f}"]
    cells += [_or_dash(v.get(f"calibration_error{of}")) for of in ("", "_of_quality")]
    cells += [f"{v['flagged']:.0%}", _or_dash(v["mean_dice_unflagged"])]
    return f"| {' | '.join(map(str, cells))} | {'yes' if v['installed'] else '**no**'} |"


def _coverage(v: dict[str, Any]) -> str:
    return f"{v['coverage']:.3f} ({v['coverage_low']:.2f}-{v['coverage_high']:.2f})"


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _error(quality: Sequence[float], dice: Sequence[float]) -> float:
    return reliability(np.clip(quality, 0, 1), dice).error
