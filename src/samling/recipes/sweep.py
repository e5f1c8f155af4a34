"""sweep: the cells of a comparison, measured here one after the other or on a Ray cluster."""

import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from errno import EDQUOT, ENOSPC, EROFS
from functools import partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samling.cache import NAMED_MODELS
from samling.config import ComparePlan, load_recipe
from samling.errors import InputError, one_of
from samling.evaluation.baselines import BASELINES, baseline
from samling.evaluation.protocols import Asked, expand
from samling.inference.card import Card
from samling.models.families import FAMILIES
from samling.recipes.caveats import crossing, seen_before, unfinished
from samling.recipes.cells import Cell, Measured, measure_cell, together
from samling.recipes.cluster import Row, on_ray
from samling.recipes.evaluate import split_part, touch_test
from samling.recipes.run_folder import epochs_of
from samling.recipes.seen import made_of_base, seen_by_base

if TYPE_CHECKING:
    from samling.data.splits import TestSplit, ValSplit
    from samling.data.store import Store

Part = tuple["Store", "ValSplit | TestSplit"]
Load = Callable[[str], Asked[Any]]
Progress = Callable[[str], None]
Grid = dict[tuple[str, str, int], Measured]
"""(store, method, seed) -> what was measured; what failed is not there."""


class Sweep:
    """What a plan asks for.

    Attributes:
        parts: the stores by name: each with the images to measure, or every fold of it with its own.

    Args:
        plan: YAML of `config.ComparePlan`; paths in it are relative to its folder.
        out: folder of cells/.
        load: gives a segmenter by name; `recipes.load.load` if None.

    Raises:
        InputError: the plan is unusable, or a store.
    """

    def __init__(self, plan: Path, out: Path, load: Load | None = None) -> None:
        self.path, self.out, self.load = plan, out, load
        self.plan = read_plan(plan)
        self.parts = _open(self.plan, plan.parent)
        self._epochs: dict[str, tuple[int, int] | None] = {}
        try:
            protocols = expand(self.plan.prompts)
        except InputError as error:
            raise InputError(f"{plan} prompts", error.problem, error.remedy) from None
        self.cells = _cells(self.plan, tuple(protocols), plan.parent)

    def measure(self, cell: Cell, say: Progress) -> Measured:
        """One cell, or what is known of it."""
        store, part = self.parts[cell.store][max(cell.fold - 1, 0)]
        # Now: its training may go on beside the measuring, and end before the page is written
        self._epochs.setdefault(cell.model, epochs_of(Path(cell.model)))

        def before(card: Card) -> None:
            if self.plan.split == "test":
                touch_test(self.out, cell.method, card, store, say)

        load = partial(self.segmenter, cell)
        return measure_cell(cell, store, part, self.out / "cells", load, say, before)

    def segmenter(self, cell: Cell) -> Asked[Any]:
        """The model, or the baseline, of a cell."""
        if cell.model in BASELINES:
            return baseline(cell.model)
        if self.load is not None:
            return self.load(cell.model)
        from samling.recipes.load import load

        return load(cell.model)

    def measure_all(self, say: Progress) -> tuple[Grid, list[str]]:
        """Every cell; and those that could not be measured, in words."""
        done: dict[tuple[str, str, int], list[Measured]] = {}
        failures: list[str] = []
        for number, cell in enumerate(self.cells, start=1):
            where = str(cell)
            say(f"{number}/{len(self.cells)} {where}")
            try:
                found = self.measure(cell, say)
                done.setdefault((cell.store, cell.method, cell.seed), []).append(found)
            except Exception as error:  # one cell's fault must not cost the night
                if isinstance(error, OSError) and error.errno in (ENOSPC, EDQUOT, EROFS):
                    raise  # a full disk concerns every cell
                kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
                failures.append(f"{where}: {kind}{' '.join(str(error).split())}")
                say(f"  not measured: {failures[-1]}")
        # A method that lacks a fold would be compared on other images: it is left out
        whole = {key: found for key, found in done.items() if len(found) == (self.plan.folds or 1)}
        return {key: together(found) for key, found in whole.items()}, failures

    def ids(self, store: str) -> list[str]:
        """The cases that are measured, of all folds."""
        return [id for _, part in self.parts[store] for id in part.ids]

    def folds(self, store: str) -> dict[str, int]:
        """Id -> the fold in which it is measured; {} without folds."""
        parts = self.parts[store] if self.plan.folds else []
        return {id: number for number, (_, part) in enumerate(parts, start=1) for id in part.ids}

    def caveats(self, grid: Grid) -> list[str]:
        """What to know of a grid: unfinished runs, methods that may have seen images, splits that leak."""
        trained: dict[tuple[str, str], frozenset[str]] = {}
        met_base: dict[str, None] = {}  # in order
        for (name, method, _), found in grid.items():
            seen = frozenset(found.trained_on)
            trained[method, name] = trained.get((method, name), frozenset()) | seen
            met_base |= {name: None} if made_of_base(found.base_sha256) else {}
        stores = {name: parts[0][0] for name, parts in self.parts.items()}
        own = {name: store.name for name, store in stores.items()}
        known = seen_by_base({name: (stores[name], self.ids(name)) for name in met_base})
        leaks = [s for name, store in stores.items() for s in crossing(store, name)]
        return [*unfinished(self._epochs_by_name(grid)), *seen_before(trained, own), *known, *leaks]

    def _epochs_by_name(self, grid: Grid) -> dict[str, tuple[int, int] | None]:
        """Method, with data, fold and seed where it has several models -> epochs when it was measured."""
        cells = [cell for cell in self.cells if (cell.store, cell.method, cell.seed) in grid]
        several = Counter(method for method, _ in {(cell.method, cell.model) for cell in cells})
        return {
            cell.method if several[cell.method] == 1 else str(cell): self._epochs[cell.model]
            for cell in cells
        }

    def on_ray(self) -> None:
        """Measure what is missing on the processors of a cluster; `measure_all` finds it then.

        Raises:
            InputError: Ray is not installed, or test images would be looked at: who looked at them is
                written down one by one.
        """
        if self.plan.split == "test" and not self.plan.folds:
            raise InputError("--ray", "is for validation images", "leave it out to look at test")
        rows = [{"number": number} for number in range(len(self.cells))]
        on_ray(_Worker, (str(self.path), str(self.out)), rows, "comparing", "cells")


class _Worker:
    """Measures cells by their numbers."""

    def __init__(self, plan: str, out: str) -> None:
        self._sweep = Sweep(Path(plan), Path(out))

    def __call__(self, row: Row) -> Row:
        with suppress(Exception):  # `measure_all` meets it again, and says what it is
            self._sweep.measure(self._sweep.cells[row["number"]], lambda text: None)
        return row


def read_plan(path: Path) -> ComparePlan:
    """Read and check a plan.

    Raises:
        InputError: missing, no plan, an unknown baseline, a name used twice, no method at all.
    """
    if not path.is_file():
        raise InputError(path, "does not exist", "give a plan, see samling compare --help")
    plan = load_recipe(ComparePlan, path, [])
    known = ", ".join(BASELINES)
    for name in plan.baselines:
        if name not in BASELINES:
            raise InputError(f"{path} baselines", f"'{name}' is not known", one_of(name, BASELINES))
    names = [*plan.methods, *plan.baselines]
    if not names:
        raise InputError(f"{path} methods", "are empty", f"name models, or baselines of {known}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{path} methods", f"'{twice[0]}' is there twice", "give each its name")
    if plan.reference and plan.reference not in names:
        remedy = one_of(plan.reference, names)
        raise InputError(f"{path} reference", f"'{plan.reference}' is no method", remedy)
    return plan


def _open(plan: ComparePlan, folder: Path) -> dict[str, list[Part]]:
    from samling.data.store import Store

    count = plan.folds or 0
    ends = [f"@{fold}of{count}" for fold in range(1, count + 1)] or [""]
    parts: dict[str, list[Part]] = {}
    for name, path in plan.stores.items():
        stores = [Store.open(folder / f"{path}{end}") for end in ends]
        parts[name] = [(store, split_part(store, plan.split, store.path)) for store in stores]
    return parts


def _cells(plan: ComparePlan, protocols: tuple[str, ...], folder: Path) -> list[Cell]:
    """Every cell, method by method. What no seed changes is measured with the first one only."""
    methods = plan.methods | {name: name for name in plan.baselines}
    found = []
    for name, model in methods.items():
        for store in plan.stores:
            for seed in plan.seeds:
                repeats = seed == plan.seeds[0] or "{seed}" in model
                asked = [p for p in protocols if repeats or re.search(r"\d", p.partition("~")[0])]
                if not asked:
                    continue
                for fold in range(1, plan.folds + 1) if plan.folds else (0,):
                    words = {"{seed}": str(seed), "{store}": store, "{fold}": str(fold)}
                    path = reduce(lambda text, word: text.replace(*word), words.items(), model)
                    path = _placed(path, folder) if name in plan.methods else path
                    found.append(Cell(store, name, path, seed, tuple(asked), fold))
    return found


def _placed(model: str, folder: Path) -> str:
    """A model of a plan: a name stays, a path starts at the plan's folder, also behind `family:`."""
    if model.partition("@")[0] in (*NAMED_MODELS, *FAMILIES):
        return model
    family, _, path = model.rpartition(":")
    return f"{family}:{folder / path}" if family in FAMILIES else str(folder / model)
