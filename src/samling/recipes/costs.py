"""costs: what the methods of a comparison cost, all timed in one go, so that their times compare."""

import json
import math
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from samling.atomic import write_text
from samling.evaluation.cost import Cost, measure_cost
from samling.evaluation.matrix import drawn_by_lot
from samling.evaluation.protocols import Asked
from samling.recipes.cells import Cell
from samling.recipes.identity import WEIGHTS, place_of
from samling.recipes.sweep import Grid, Sweep
from samling.training.log import environment

Costs = dict[str, dict[str, Cost]]
"""Store -> method -> what an image of it costs."""
FILE = "costs.json"
SCHEMA = 5
"""Raise it when a figure of a cost means something else: then every method is timed again."""
FOLLOWED = ("running_mean", "running_var", "num_batches_tracked")
"""Endings of what batch norms keep of the data: in a network's file, but no weights."""


def measure_costs(sweep: Sweep, grid: Grid, say: Callable[[str], None]) -> tuple[Costs, list[str]]:
    """Time every method that was measured, on the images of every store that the pictures show.

    Kept in `costs.json`. Where a method of a store is new or has changed, or the machine has, all of that
    store are timed again: a machine has good hours and bad ones. Of several seeds or folds the first
    stands for all.

    Returns:
        The costs, and what could not be timed, in words.
    """
    path, costs, failures = sweep.out / FILE, Costs(), list[str]()
    kept = _read(path)
    for name in sweep.parts:
        cells = _first_cells(sweep, grid, name)
        models = {
            method: grid[name, method, cell.seed].weights[0] for method, cell in cells.items()
        }
        on = _circumstances(sweep, name)
        known = kept.get(name, {"on": None, "models": {}})
        if known["on"] != on or not models.items() <= known["models"].items():
            say(f"timing {len(cells)} methods on {name}, one after the other")
            told = _timed(sweep, cells, failures)
            timed = {method: models[method] for method in told}
            known = kept[name] = {"on": on, "models": timed, "costs": told}
            write_text(path, json.dumps(kept, allow_nan=False, indent=2) + "\n")
        found = known["costs"]
        costs[name] = {method: Cost(**found[method]) for method in cells if method in found}
    return costs, failures


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _circumstances(sweep: Sweep, name: str) -> dict[str, Any]:
    """What changes all times of a store: its images, the machine, what is timed."""
    about = environment()
    return {
        "store": [store.content_hash for store, _ in sweep.parts[name]],
        "machine": [about["machine"], platform.processor(), os.cpu_count()],
        "versions": about["versions"],
        "figures": [field.name for field in fields(Cost)],
        "schema": SCHEMA,
    }


def _timed(sweep: Sweep, cells: Mapping[str, Cell], failures: list[str]) -> dict[str, Any]:
    """Method -> its cost as a dictionary; what cannot be timed joins `failures`."""
    told: dict[str, Any] = {}
    for method, cell in cells.items():
        try:
            told[method] = asdict(_cost(sweep, cell))
        except Exception as error:  # a method without a time is still one with a Dice
            failures.append(f"{cell}: not timed. {' '.join(str(error).split())}")
    return told


def _first_cells(sweep: Sweep, grid: Grid, name: str) -> dict[str, Cell]:
    """Method -> the first of its cells on a store that were measured."""
    cells: dict[str, Cell] = {}
    for cell in sweep.cells:
        if cell.store == name and (name, cell.method, cell.seed) in grid:
            cells.setdefault(cell.method, cell)
    return cells


def _cost(sweep: Sweep, cell: Cell) -> Cost:
    store, part = sweep.parts[cell.store][max(cell.fold - 1, 0)]
    segmenter = sweep.segmenter(cell)
    images = [store.case(id).image for id in drawn_by_lot(part.ids)]
    cost = measure_cost(segmenter, images, _parameters(segmenter))
    return replace(cost, trained=_trained(cell.model), file_mb=_file_mb(cell.model))


def _parameters(segmenter: Asked[Any]) -> int | None:
    """Number of weights of a PyTorch model, 0 of a baseline, None of anything else."""
    backend = getattr(segmenter, "backend", None)
    module = getattr(getattr(backend, "model", None), "module", None)
    if module is not None:
        return sum(weight.numel() for weight in module.parameters())
    return 0 if backend is None else None


def _trained(model: str) -> int | None:
    """Weights in the file of an adapter or of a network trained from scratch."""
    for name in ("adapter", "network"):
        path = Path(model) / f"{name}.safetensors"
        if path.is_file():
            from safetensors import safe_open

            with safe_open(path, framework="np") as stream:
                keys = [key for key in stream.keys() if not key.endswith(FOLLOWED)]  # noqa: SIM118
                return sum(math.prod(stream.get_slice(key).get_shape()) for key in keys)
    return None


def _file_mb(model: str) -> float | None:
    """Megabytes of a model's weights, or of a whole bundle in one file; None if it has no file."""
    path = place_of(model)
    if path.is_file():
        return path.stat().st_size / 1e6
    sizes = [file.stat().st_size for pattern in WEIGHTS[:2] for file in path.glob(pattern)]
    return sum(sizes) / 1e6 if sizes else None
