"""Sections of the evaluation report: what was measured, what it means, what to do next."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from samling.evaluation.forest import forest
from samling.evaluation.formats import signed
from samling.evaluation.metrics import DEFINITIONS
from samling.evaluation.overlays import as_jpeg
from samling.evaluation.paired import Compared, compare_methods, paired_table
from samling.evaluation.protocols import MOST_CLICKS
from samling.evaluation.report import Command, Drawing, Picture, Points, Section, Table, Terms, Text
from samling.evaluation.run import Row
from samling.evaluation.statistics import MeanOver
from samling.evaluation.tables import (
    Score,
    automatic,
    by_category,
    category_table,
    clicks_table,
    count,
    describe,
    details,
    headline,
)

_DAMAGE_TITLES = {
    "typical": "The image of median Dice as it was, in its damages.",
    "hardest": "The image that loses most.",
}
_COLOURS = "Blue: truth. Orange: prediction. White: prompt."
_SHEET_TITLES = {
    "all": "All images",
    "best": "The best images",
    "median": "The images in the middle",
    "worst": "The worst images",
}


@dataclass(frozen=True)
class Evaluation:
    """All that a report tells.

    Args:
        model: the method's name in the rows.
        given: the model as the user named it, for the commands.
        split: `val` or `test`.
        store: name of the data set. store_file: as the user named it.
        notes: what could not be measured, and why.
        caveats: sentences on what flatters the figures; they follow the first of them.
        provenance: names and values, as text.
        sheets: best, median, worst, or all -> PNG.
        curves: PNG, or None.
        robustness: PNG of Dice against jitter, or None.
        damage: Dice on damaged pictures, damage_curves: PNG, or None. damage_sheets: typical, hardest
            -> PNG.
        over: what the means are over.
    """

    model: str
    given: str
    split: str
    store: str
    store_file: str
    scores: Sequence[Score]
    rows: Sequence[Row]
    notes: Sequence[str]
    provenance: Sequence[tuple[str, str]]
    sheets: dict[str, Path] = field(default_factory=dict)
    curves: Path | None = None
    robustness: Path | None = None
    damage: Table | None = None
    damage_curves: Path | None = None
    damage_sheets: dict[str, Path] = field(default_factory=dict)
    over: MeanOver = "image"
    caveats: Sequence[str] = ()

    @property
    def main(self) -> Score | None:
        """The model's score under the first protocol, `noc` last; None if no image counts."""
        own = [score for score in self.scores if score.method == self.model and score.n]
        own.sort(key=lambda score: score.protocol.startswith("noc"))
        return own[0] if own else None

    @cached_property
    def tests(self) -> list[Compared]:
        """The model against every other method on the same images."""
        return compare_methods(self.rows, self.model, over=self.over)


def lead(evaluation: Evaluation) -> str:
    """The answer in two sentences, and what flatters it."""
    main, name = evaluation.main, evaluation.model
    if main is None or main.dice is None or main.hd95_px is None:
        return f"{name} was measured on {evaluation.store}, but no image of the split counts."
    part = "validation" if evaluation.split == "val" else "test"
    found = (
        f"On {main.n} {part} images of {evaluation.store}, asked with {_asked(main.protocol)}, "
        f"{name} reaches a mean Dice of {main.dice.mean:.3f} (95% interval {main.dice.low:.3f} to "
        f"{main.dice.high:.3f}); its outline is {main.hd95_px.mean:.1f} px off (HD95)."
    )
    return " ".join([found, *evaluation.caveats])


def sections(evaluation: Evaluation) -> list[Section]:
    """The page, from the answer to the small print."""
    scores, name = evaluation.scores, evaluation.model
    over = evaluation.over
    divided = category_table(by_category(evaluation.rows, name, over=over))
    plot = forest([score for score in scores if not score.protocol.startswith("noc")], name)
    caption = f"Mean Dice with its 95% interval; {name} is the coloured dot."
    return [
        Section(
            "Results", [headline(scores, name, over), *([Drawing(plot, caption)] * bool(plot))]
        ),
        Section("What the numbers mean", [Points(tuple(meaning(evaluation)))]),
        Section("Against the others", _present(paired_table(evaluation.tests, over))),
        Section("If the box is not tight", _robustness(evaluation)),
        Section("On damaged pictures", _damaged(evaluation)),
        Section("Clicks", _present(clicks_table(scores, name, over))),
        Section("Without a prompt", _present(automatic(scores))),
        Section("By category", _present(divided)),
        Section("Outlines, pixels and lesions", [details(scores, name, over)]),
        Section("Training", _curves(evaluation)),
        *_sheets(evaluation),
        Section("What to do next", next_steps(evaluation)),
        Section("Definitions", [Terms(tuple(DEFINITIONS.items()))]),
        Section("Provenance", [_provenance(evaluation.provenance)]),
    ]


def meaning(evaluation: Evaluation) -> list[str]:
    """Comparisons on the same images, in words; then what could not be measured."""
    own = [s for s in evaluation.scores if s.method == evaluation.model and s.dice]
    said = [sentence for score in own for sentence in _against_others(evaluation, score)]
    said += _jitter_cost(own)
    said += [_in_automatic(score) for score in own if score.protocol == "auto"]
    said += [_in_clicks(score) for score in own if score.clicks]
    skipped = max((score.n_skipped for score in own), default=0)
    if skipped:
        said.append(
            f"{skipped} images without a lesion don't count for boxes and points: there is nothing "
            "to point at."
        )
    wrong = [score for score in evaluation.scores if not score.consistent]
    said += [
        f"{score.method}, {describe(score.protocol)}: mean Dice and mean IoU contradict each other "
        "(Jensen's bound). Don't use these numbers; tell us."
        for score in wrong
    ]
    return [*said, *evaluation.notes]


def _against_others(evaluation: Evaluation, score: Score) -> list[str]:
    """One sentence per other method under the same protocol."""
    return [
        f"Asked with {_asked(score.protocol)}, {evaluation.model} against {test.other}: "
        f"{signed(100 * test.change.mean)} Dice points on the same images "
        f"({signed(100 * test.change.low)} to {signed(100 * test.change.high)}): {test.verdict}."
        for test in evaluation.tests
        # the ellipse is the harder one to beat: one sentence is enough
        if test.protocol == score.protocol
        and test.measure == "dice"
        and test.other != "fill the box"
    ]


def _jitter_cost(own: Sequence[Score]) -> list[str]:
    tight = next((score.dice for score in own if score.protocol == "box"), None)
    loose = [score for score in own if score.protocol.startswith("jitter")]
    if tight is None:
        return []
    return [
        f"Moving each side of the box by up to ±{score.protocol.removeprefix('jitter')}% costs "
        f"{100 * (tight.mean - score.dice.mean):.1f} Dice points."
        for score in loose
        if score.dice
    ]


def _in_automatic(score: Score) -> str:
    alarms = score.n_false_alarms / score.n if score.n else 0.0
    empty = f" Of {score.n_empty} images without a lesion, {count(score.n_empty_right)} stay empty."
    return (
        f"Without a prompt it finds {count(score.n_found)} of {score.n_lesions} lesions, with "
        f"{alarms:.2f} false alarms per image." + (empty if score.n_empty else "")
    )


def _in_clicks(score: Score) -> str:
    assert score.clicks is not None
    return (
        f"It takes {score.clicks.mean:.1f} {describe(score.protocol)}; {count(score.n_reached)} of "
        f"{score.n} images get there within {MOST_CLICKS}."
    )


def _asked(protocol: str) -> str:
    words = describe(protocol)
    if protocol == "auto":
        return "no prompt"
    return f"a {words}" if protocol.startswith(("box", "jitter")) else words


def _present(table: Table | None) -> list[Table]:
    return [table] if table else []


def _robustness(evaluation: Evaluation) -> list[Picture]:
    if evaluation.robustness is None:
        return []
    caption = (
        "Mean Dice when each side of the tight box is moved at random by up to so many percent of "
        "the box's extent, with 95% intervals. A flat curve: the model does not lean on the box."
    )
    return [Picture(evaluation.robustness, "Dice against the jitter of the box", caption)]


def _damaged(evaluation: Evaluation) -> list[Table | Picture]:
    if evaluation.damage is None or evaluation.damage_curves is None:
        return []
    caption = (
        "Mean change of Dice, each image against itself, with its 95% interval at the levels of each "
        "damage; labels and prompts unchanged."
    )
    found: list[Table | Picture] = [evaluation.damage]
    found.append(Picture(evaluation.damage_curves, "Dice against damage", caption))
    for which, path in evaluation.damage_sheets.items():
        shown = f"{_DAMAGE_TITLES[which]} All levels of a damage are one draw. {_COLOURS}"
        found.append(Picture(as_jpeg(path), f"Damaged pictures, {which}", shown))
    return found


def _curves(evaluation: Evaluation) -> list[Picture]:
    if evaluation.curves is None:
        return []
    caption = "Loss terms on the training images and Dice on the validation images, per epoch."
    return [Picture(evaluation.curves, "Curves of loss and Dice over the epochs", caption)]


def _sheets(evaluation: Evaluation) -> list[Section]:
    main = evaluation.main
    if main is None:
        return []
    shown = f"Asked with {_asked(main.protocol)}. {_COLOURS}"
    return [
        Section(
            _SHEET_TITLES[which],
            [
                Picture(
                    as_jpeg(path), f"{_SHEET_TITLES[which]} with true and predicted outlines", shown
                )
            ],
        )
        for which, path in evaluation.sheets.items()
    ]


def next_steps(evaluation: Evaluation) -> list[Text | Points | Command]:
    """Advice that fits the split and the result, and commands to copy."""
    advice = ["Look at the worst images first: a doubtful label is as likely as a poor prediction."]
    main = evaluation.main
    ellipse = next(
        (s.dice for s in evaluation.scores if main and s.method == "ellipse in the box"
         and s.protocol == main.protocol),
        None,
    )  # fmt: skip
    if main and main.dice and ellipse and main.dice.mean <= ellipse.mean:
        advice.append(
            "An ellipse drawn in the box does as well: the model has not learnt the outline. Train "
            "longer, with more images, or from a better base."
        )
    if evaluation.split == "val":
        advice.append(
            "These are validation images: choose between models by them as often as you like. "
            "Measure the one you choose on the test images, once."
        )
    else:
        advice.append(
            "These are test images: the numbers are honest as long as nothing is chosen by them."
        )
    model, store = shlex.quote(evaluation.given), shlex.quote(evaluation.store_file)
    commands = [
        f"samling export {model} -o model.bundle",
        "samling predict model.bundle IMAGES -o masks",
    ]
    if evaluation.split == "val":
        commands.insert(0, f"samling evaluate {model} --data {store} --split test -o test")
    return [Points(tuple(advice)), Command(tuple(commands))]


def _provenance(items: Sequence[tuple[str, str]]) -> Table:
    return Table(("What", "Value"), tuple(items), text_columns=(0, 1))
