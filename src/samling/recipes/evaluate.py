"""evaluate: measure a model on a validation or test split; tables, sheets and one HTML report."""

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samling.atomic import write_text
from samling.errors import InputError, one_of
from samling.evaluation.curves import draw_curves
from samling.evaluation.damage import divided
from samling.evaluation.drop import drop_table
from samling.evaluation.plots import draw_damage, draw_robustness
from samling.evaluation.protocols import AnySegmenter, expand, kinds_of
from samling.evaluation.report import write_report
from samling.evaluation.results import as_json, as_markdown, facts_of, provenance
from samling.evaluation.run import Row, evaluate_baselines, evaluate_segmenter
from samling.evaluation.sections import Evaluation, lead, sections
from samling.evaluation.sheets import draw_damaged, draw_sheets
from samling.evaluation.statistics import MeanOver
from samling.evaluation.tables import summarise, undamaged, write_csv
from samling.inference.card import Card
from samling.inference.segmenter import Segmenter
from samling.recipes.caveats import crossing, seen_before, unfinished
from samling.recipes.leaks import other_split, refuse_seen_images
from samling.recipes.run_folder import epochs_of
from samling.recipes.seen import made_of_base, seen_by_base
from samling.training.log import environment

if TYPE_CHECKING:
    from samling.data.splits import TestSplit, ValSplit
    from samling.data.store import Store

Load = Callable[[str], AnySegmenter]
Progress = Callable[[str], None]
PROTOCOLS = ("box", "jitter10", "point1", "auto")
TOUCHED = "test_touched.json"
SEED = 0
"""Of jitter, points, bootstrap and tests: the same in every evaluation, so that they compare."""


@dataclass(frozen=True)
class Counting:
    """What counts, and how much.

    Args:
        mean_over: `image` or `patient`: what weighs the same in a mean.
        class_name: measure this class alone, where the model or the store has several.
    """

    mean_over: str = "image"
    class_name: str = ""


@dataclass
class _Measured:
    """What came out of measuring, before it is written."""

    name: str
    protocols: list[str]
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def evaluate(
    model: str,
    store: Path,
    out: Path,
    split: str,
    protocols: Sequence[str] = PROTOCOLS,
    *,
    counting: Counting = Counting(),
    load: Load | None = None,
    progress: Progress | None = None,
) -> Path:
    """Measure a model beside its base and two baselines that need no model.

    Args:
        model: run folder, bundle or name.
        store: made by prepare.
        out: folder of results.json, results.csv, table.md, sheet_*.png and report.html.
        split: `val` or `test`.
        protocols: see `protocols.expand`; those the model cannot do are named in the report.
        counting: means over images or patients, all classes or one.
        load: gives a segmenter by name; `recipes.load.load` if None.
        progress: told how it goes; the log if None.

    Returns:
        The report.

    Raises:
        InputError: unknown split, protocol or class, an empty split, a store that the model may have been
            trained on with another split or cannot see, or a model that can do none of the protocols.
    """
    from samling.data.store import Store

    say, load = progress or logging.getLogger("samling").info, load or _loader()
    over = _over(counting.mean_over)
    opened = Store.open(store)
    part = split_part(opened, split, store)
    segmenter = load(str(model))
    check_units(segmenter.card, opened, part.ids, model)
    opened.neighbours = segmenter.card.slices == 3
    segmenter = for_class(segmenter, opened, counting.class_name)
    usable, notes = _offered(segmenter.card, expand(protocols), model)
    refuse_leaks(segmenter.card, opened, model, part, say)  # looks at every image: last
    notes += _on_classes(opened, counting.class_name)
    if split == "test":
        notes += touch_test(out, str(model), segmenter.card, opened, say)
    caveats = _caveats(str(model), segmenter.card, opened, part.ids)
    measured = _Measured(segmenter.card.name, usable, notes=notes, caveats=caveats)
    _measure(measured, segmenter, opened, part, load, say)
    given = (str(model), str(store))
    return _write(measured, segmenter, opened, Path(out), given=given, split=split, over=over)


def _offered(card: Card, protocols: Sequence[str], model: str) -> tuple[list[str], list[str]]:
    """As `_usable`, but refuse a model that can do nothing of what is asked."""
    usable, notes = _usable(card, protocols, card.name)
    if not usable:
        raise InputError(model, " ".join(notes) or "no protocol", "give --prompts that it can do")
    return usable, notes


def _on_classes(store: "Store", only: str) -> list[str]:
    """What is counted where the store has several classes."""
    if only:
        return [f"Only the class {only} is measured."]
    if len(store.classes) < 2:
        return []
    names = ", ".join(store.classes)
    return [f"All classes ({names}) count as one object; --class NAME measures one of them."]


def _caveats(model: str, card: Card, store: "Store", ids: Sequence[str]) -> list[str]:
    trained = {(card.name, store.name): frozenset(card.trained_on)}
    known = seen_by_base({store.name: (store, ids)}) if made_of_base(card.base_sha256) else []
    told = [
        *unfinished({card.name: epochs_of(Path(model))}),
        *seen_before(trained, {store.name: store.name}),
    ]
    return [*told, *known, *crossing(store, store.name)]


def _through_window(base: AnySegmenter, card: Card) -> AnySegmenter:
    """The base, seeing Hounsfield units as the adapted model does: from -1000 to bone all is grey."""
    if card.window_hu is None or not isinstance(base, Segmenter):
        return base
    return Segmenter(base.backend, base.card.model_copy(update={"window_hu": card.window_hu}))


def refuse_leaks(
    card: Card, store: "Store", model: str, part: "ValSplit | TestSplit", say: Progress
) -> None:
    """Refuse a model that may have been trained on images to be measured: by split, then by content.

    Raises:
        InputError: saying which.
    """
    check_no_leak(card, store, model)
    refuse_seen_images(str(model), store, part.ids, say)


def check_no_leak(card: Card, store: "Store", model: str) -> None:
    """Refuse a model that was trained on this data set under another split.

    Raises:
        InputError: its training images may be among those to be measured.
    """
    if own := other_split(card, store):
        raise InputError(
            model,
            f"was trained on '{store.name}' with split {own[:12]}, this store has split "
            f"{store.splits.hash[:12]}: its training images may be among those to be measured",
            "name the store it was trained on, or its fold (STORE.h5@2of5), or train again on this one",
        )


def check_units(card: Card, store: "Store", ids: Sequence[str], model: str) -> None:
    """Refuse a model with a window on images without Hounsfield units.

    Raises:
        InputError: naming the first image.
    """
    other = next((id for id in ids if not store.meta(id).hounsfield), None)
    if card.window_hu is not None and other is not None:
        problem = f"sees Hounsfield units through a window, and '{other}' has none"
        raise InputError(model, problem, "use a store of CT scans, or a model without a window")


def for_class(segmenter: AnySegmenter, store: "Store", name: str) -> AnySegmenter:
    """The segmenter, looking for one class alone ("": all); the store then labels that class alone.

    Raises:
        InputError: store or model do not know the class.
    """
    card = segmenter.card
    if not name:
        return segmenter
    if name not in store.classes:
        raise InputError("--class", f"'{name}' is not in {store.name}", one_of(name, store.classes))
    store.only = (store.classes.index(name) + 1, card.automatic == "nested")
    if card.automatic == "together" or not isinstance(segmenter, Segmenter):
        return segmenter
    if name not in card.classes:
        raise InputError(
            "--class", f"'{name}' is not known to {card.name}", one_of(name, card.classes)
        )
    return Segmenter(segmenter.backend, card, card.classes.index(name))


def touch_test(out: Path, model: str, card: Card, store: "Store", say: Progress) -> list[str]:
    """Write down that the test images are looked at, before they are; return the note.

    A fold leaves the store's test images out: there is nothing to write down.
    """
    if store.fold is not None:
        return []
    path = Path(out) / TOUCHED
    before = _read_touched(path)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    entry = {"when": now, "model": model, "name": card.name, "store": store.name}
    entry["split_hash"] = store.splits.hash
    write_text(path, json.dumps([*before, entry], indent=2) + "\n")
    note = f"The test set of {store.name} has been touched ({path.name} keeps the record)."
    if before:
        note = f"{note} It was touched {len(before)} time(s) before in this folder."
    say(note)
    return [note]


def _read_touched(path: Path) -> list[Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except ValueError:
        raise InputError(path, "is not JSON", "mend it or name another folder") from None
    return content if isinstance(content, list) else [content]


def split_part(store: "Store", split: str, path: Path) -> "ValSplit | TestSplit":
    """The validation or the test split of a store.

    Raises:
        InputError: another split, or one without a labelled case.
    """
    if split not in ("val", "test"):
        raise InputError("--split", f"'{split}' is not measured", "give val or test")
    part = store.splits.val if split == "val" else store.splits.test
    labelled = tuple(id for id in part.ids if store.meta(id).labelled)
    if not labelled:
        raise InputError(path, f"its {split} split has no labelled image", "prepare more images")
    return replace(part, ids=labelled)


def _loader() -> Load:
    from samling.recipes.load import load

    return load


def _over(name: str) -> MeanOver:
    if name not in ("image", "patient"):
        raise InputError("--mean", f"'{name}' is not known", "give image or patient")
    return "image" if name == "image" else "patient"


def _usable(card: Card, protocols: Sequence[str], name: str) -> tuple[list[str], list[str]]:
    """Protocols that the model was trained for, in their order, and a note about the others."""
    usable = [asked for asked in protocols if set(kinds_of(asked)) <= set(card.prompts)]
    missing = [protocol for protocol in protocols if protocol not in usable]
    return usable, [f"{name} was not made for {', '.join(missing)}."] if missing else []


def _measure(
    measured: _Measured,
    segmenter: AnySegmenter,
    store: "Store",
    part: "ValSplit | TestSplit",
    load: Load,
    say: Progress,
) -> None:
    def timed(name: str, model: AnySegmenter, protocols: list[str]) -> None:
        started = time.perf_counter()
        measured.rows += evaluate_segmenter(
            model, store, part, protocols, SEED, method=name, progress=say
        )
        measured.seconds[name] = round(time.perf_counter() - started, 2)

    timed(measured.name, segmenter, measured.protocols)
    card = segmenter.card
    if card.adapter is not None:
        label = f"{Path(card.base).name} without adapter"  # a report names no folder of its maker
        try:
            base = load(card.base)
            check_no_leak(base.card, store, card.base)
            base = _through_window(base, card)
        except InputError as error:
            measured.notes.append(f"{label}: not measured. {error}")
            say(measured.notes[-1])
        else:
            protocols, notes = _usable(base.card, measured.protocols, label)
            measured.notes += notes
            if card.clahe is not None:
                measured.notes.append(f"{label}: shown the pictures without CLAHE")
            if protocols:
                timed(label, base, protocols)
    measured.rows += evaluate_baselines(store, part, measured.protocols, SEED)


def _write(
    measured: _Measured,
    segmenter: AnySegmenter,
    store: "Store",
    out: Path,
    *,
    given: tuple[str, str],
    split: str,
    over: MeanOver,
) -> Path:
    own = [row for row in measured.rows if row.method == measured.name]
    counted = {row.protocol for row in own if row.counted}
    shown = next((protocol for protocol in measured.protocols if protocol in counted), "")
    sheets = draw_sheets(
        segmenter, store, [row for row in own if row.protocol == shown], out, seed=SEED
    )
    facts = facts_of(segmenter.card, store, split, SEED) | {
        "protocols": measured.protocols,
        "seconds": measured.seconds,
        "environment": environment(),
    }
    every = summarise(measured.rows, SEED, over)
    scores = undamaged(every)
    evaluation = Evaluation(
        model=measured.name,
        given=given[0],
        split=split,
        store=store.name,
        store_file=given[1],
        scores=scores,
        rows=[row for row in measured.rows if not divided(row.protocol)[1]],
        damage=drop_table(measured.rows, over),
        damage_curves=draw_damage(measured.rows, out / "damage.png", over),
        damage_sheets=draw_damaged(segmenter, store, own, out, seed=SEED),
        notes=measured.notes,
        caveats=measured.caveats,
        provenance=provenance(facts),
        sheets=sheets,
        curves=_curves(Path(given[0]), out),
        robustness=draw_robustness(scores, out / "robustness.png"),
        over=over,
    )
    write_csv(out / "results.csv", measured.rows)
    write_text(out / "results.json", as_json(facts, evaluation))
    write_text(out / "table.md", as_markdown(evaluation))
    return _report(evaluation, out / "report.html")


def _report(evaluation: Evaluation, path: Path) -> Path:
    part = "validation" if evaluation.split == "val" else "test"
    title = f"{evaluation.model} on {evaluation.store}, {part} images"
    footer = "Made by samling. Research software, not a medical device."
    return write_report(path, title, lead(evaluation), sections(evaluation), footer=footer)


def _curves(run: Path, out: Path) -> Path | None:
    metrics = run / "metrics.jsonl"
    return draw_curves(metrics, out / "curves.png") if metrics.is_file() else None
