"""calibrate: how far a model's own quality can be trusted, on images that it was not trained on."""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samling.atomic import write_text
from samling.cache import NAMED_MODELS
from samling.errors import InputError
from samling.evaluation.calibration import fit_curve, fit_temperature
from samling.evaluation.metrics import dice
from samling.evaluation.protocols import classes_of, generator, seen_by, truth, union
from samling.inference.bundle import CARD
from samling.inference.card import Card
from samling.inference.expectation import NOTHING, Calibration
from samling.inference.segmenter import Segmenter
from samling.prompts.sampling import objects, simulate
from samling.recipes.calibration_report import (
    ENOUGH,
    PROTOCOLS,
    Answered,
    Half,
    check,
    page,
    sentences,
)
from samling.recipes.evaluate import check_units, refuse_leaks, split_part
from samling.recipes.run_folder import CARDS

if TYPE_CHECKING:
    from samling.data.case import Case
    from samling.data.store import Store

PIXELS = 2_000
FEWEST = 10
"""Objects of a kind of prompt in either half: a conformal interval of 90 % needs 9, and one more so
that it is not the worst residual alone. With fewer the interval would be 0 to 1, which helps nobody."""
SEED = 0
Progress = Callable[[str], None]
Part = tuple["Store", tuple[str, ...]]
"""A store and the images of it that are looked at."""


def calibrate(
    model: Path,
    stores: Sequence[Path],
    *,
    level: float = 0.9,
    out: Path | None = None,
    say: Progress = lambda text: None,
) -> Path:
    """Fit expected Dice, interval and temperature to the validation groups; check them half by half.

    The check fits to either half and counts on the other. What holds goes into the model's card; a kind of
    prompt whose coverage is too low, with 95 % certainty, does not, and a sentence says so. The same
    command again measures again.

    Args:
        model: folder of a run or bundle; its card is rewritten.
        stores: with validation images, from where the model will be used. Of several all objects are
            pooled: what is promised holds for such a mixture, not for each store.
        level: share of objects whose Dice shall lie in the interval.
        out: folder of calibration.json, calibration.md and two pictures; None: MODEL/calibration.

    Raises:
        InputError: no such folder, training images among those to be measured, too few images
            or objects.
    """
    from samling.recipes.load import load

    path, out = _card_of(model), out or model / "calibration"
    loaded = load(model)
    card = loaded.card.model_copy(update={"calibration": None})
    parts = [_part(store, card, model, say) for store in dict.fromkeys(stores)]
    where = ", ".join(map(str, stores))
    if len({store.name for store, _ in parts}) < len(parts):
        raise InputError(where, "bear one name twice", "give each store once")
    halves = _halves(Segmenter(loaded.backend, card), parts, say)
    if not all(half.answers for half in halves):
        problem = "too few groups (patients) of validation images for two halves"
        raise InputError(where, problem, "give a store with more patients")
    enough = _with_enough(halves, _promised(card), level, where, say)
    found, report = _fit_and_check(halves, enough, level, parts, out)
    for sentence in sentences(report):
        say(sentence)
    write_text(out / "calibration.json", json.dumps(report, indent=2) + "\n")
    write_text(out / "calibration.md", page(report, card.asked_kinds[0]))
    Card.read(path).model_copy(update={"calibration": _what_holds(found, report)}).save(path)
    return out / "calibration.md"


def _fit_and_check(
    halves: Sequence[Half], kinds: Sequence[str], level: float, parts: Sequence[Part], out: Path
) -> tuple[Calibration, dict[str, Any]]:
    """What all groups say, and how what either half says holds on the other."""
    found, first, second = (
        _fit(of, kinds, level, parts) for of in (halves, halves[:1], halves[1:])
    )
    return found, check(found, [(second, halves[0]), (first, halves[1])], out)


def _promised(card: Card) -> list[str]:
    """Kinds of prompt with a curve. Of classes told apart, one Dice of all together would be nobody's."""
    apart = ("automatic",) if card.answers > 1 else ()
    return [kind for kind in card.asked_kinds if kind not in apart]


def _what_holds(found: Calibration, report: dict[str, Any]) -> Calibration:
    curves = {kind: c for kind, c in found.curves.items() if report["kinds"][kind]["installed"]}
    temperature = found.temperature if report["temperature_installed"] else 1.0
    return found.model_copy(update={"curves": curves, "temperature": temperature})


def _part(path: Path, card: Card, model: Path, say: Progress) -> Part:
    """The labelled validation images of a store, if this model may be measured on them."""
    from samling.data.store import Store

    store = Store.open(path)
    part = split_part(store, "val", path)
    check_units(card, store, part.ids, str(model))
    refuse_leaks(card, store, str(model), part, say)
    store.neighbours = card.slices == 3
    return store, part.ids


def _card_of(model: Path) -> Path:
    for name in (*CARDS, CARD):
        if (model / name).is_file():
            return model / name
    remedy = "name the folder of a run, of a distilled base or of a bundle"
    if str(model) in NAMED_MODELS:
        remedy = (
            f"make a bundle of it, `samling export {model} -o {model}.bundle`, and calibrate that"
        )
    raise InputError(model, "has no card that could be rewritten", remedy)


def _halves(segmenter: Segmenter, parts: Sequence[Part], say: Progress) -> list[Half]:
    """Groups in the order of a hash, store by store, every other one in the same half."""
    groups = [
        (store.name, group)
        for store, ids in parts
        for group in sorted({store.meta(id).group for id in ids}, key=_order)
    ]
    first = set(groups[::2])
    halves = {True: Half([], [], []), False: Half([], [], [])}
    asked = [(store, id) for store, ids in parts for id in ids]
    for number, (store, id) in enumerate(asked, start=1):
        half = halves[(store.name, store.meta(id).group) in first]
        ask_case(segmenter, store.case(id), half, store.name)
        if number % 25 == 0:
            say(f"{number}/{len(asked)} images")
    return list(halves.values())


def _order(group: str) -> str:
    return hashlib.sha256(f"calibrate {group}".encode()).hexdigest()


def ask_case(segmenter: Segmenter, case: "Case", half: Half, store: str) -> None:
    """Ask about one case with every kind of prompt that the model takes; add what it says to `half`."""
    encoded = segmenter.encode(seen_by(segmenter, case))
    label, classes = truth(case), classes_of(case)
    lesions = objects(classes)
    group = f"{store}/{case.group or case.id}"
    for kind in segmenter.card.asked_kinds:
        prompts = simulate(classes, PROTOCOLS[kind], generator(SEED, case.id, PROTOCOLS[kind]))
        found = segmenter.segment_encoded(encoded, prompts)
        if kind == "automatic":
            value = dice(label, union(found, label.shape))
            half.answers.append(
                Answered(store, group, kind, found[0].certainty(kind), value)
                if found  # else right or wrong as a whole: nothing tells one from the other
                else Answered(store, group, NOTHING, 1.0, value, len(lesions))
            )
        else:
            half.answers += [
                Answered(store, group, kind, item.certainty(kind), dice(lesion, item.mask))
                for lesion, item in zip(lesions, found, strict=True)
            ]
        if kind == segmenter.card.asked_kinds[0] and segmenter.answered(encoded, prompts):
            _sample(segmenter.foreground(encoded, prompts), label, case.id, half)


def _sample(likely: np.ndarray, label: np.ndarray, id: str, half: Half) -> None:
    rng = generator(SEED, id, "pixels")
    places = rng.integers(label.size, size=min(PIXELS, label.size))
    p = likely.ravel()[places].astype(np.float64).clip(1e-7, 1 - 1e-7)
    half.logits.append(np.log(p / (1 - p)))
    half.labels.append(label.ravel()[places])


def _with_enough(
    halves: Sequence[Half], kinds: Sequence[str], level: float, where: str, say: Progress
) -> list[str]:
    """Kinds of prompt with objects enough for an interval; automatic mode may have found too few.

    Raises:
        InputError: there are too few to ask about, or none of the kinds has enough.
    """
    needed = max(FEWEST, math.ceil(level / (1 - level) - 1e-9))
    counts = {kind: min(len(half.of(kind)) for half in halves) for kind in kinds}
    few = {kind: count for kind, count in counts.items() if count < needed}
    for kind, count in few.items():
        problem = (
            f"{kind}: {count} objects in one half of the groups, {needed} are needed for an interval of "
            f"{level:.0%}"
        )
        if kind != "automatic" or len(few) == len(kinds):
            remedy = f"prepare more validation images, with {2 * needed} objects or more in all"
            raise InputError(where, problem, f"{remedy}; without them leave the model as it is")
        say(f"{problem}: no expected Dice without a prompt")
    return [kind for kind in kinds if kind not in few]


def _fit(
    halves: Sequence[Half], kinds: Sequence[str], level: float, parts: Sequence[Part]
) -> Calibration:
    """Finding nothing is right or wrong as a whole: of a few such images no share is promised."""
    curves = {}
    for kind in (*kinds, NOTHING):
        own = [item for half in halves for item in half.of(kind)]
        if own and (kind != NOTHING or len(own) >= ENOUGH):
            curves[kind] = fit_curve(
                [item.quality for item in own],
                [item.dice for item in own],
                [item.group for item in own],
                level,
            )
    logits = [part for half in halves for part in half.logits]
    labels = [part for half in halves for part in half.labels]
    temperature = fit_temperature(np.concatenate(logits), np.concatenate(labels)) if logits else 1.0
    return Calibration(
        level=level,
        temperature=temperature,
        store="+".join(store.name for store, _ in parts),
        split_hash="+".join(store.splits.hash for store, _ in parts),
        curves=curves,
    )
