"""crossval: every image measured once, by a model that has not seen it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from samling.atomic import write_text
from samling.config import AdaptRecipe, DistillRecipe, find_recipe
from samling.data.splits import fold_in
from samling.data.store import Store
from samling.errors import InputError
from samling.recipes.adapt import adapt
from samling.recipes.build import load_base
from samling.recipes.catalogue import Kind, content_of, kind_of
from samling.recipes.compare import Summary, compare
from samling.recipes.evaluate import check_no_leak
from samling.recipes.prompted_training import Report
from samling.recipes.train import train

PLAN = "plan.yaml"


def crossval(
    recipes: Sequence[str],
    store: Path,
    out: Path,
    folds: int = 5,
    base: str = "base",
    overrides: Sequence[str] = (),
    *,
    report: Report = print,
) -> Summary:
    """Train every recipe once per fold, by group, and measure all of them on all images.

    In fold k the k-th part is measured, the next one chooses the epoch and the threshold, the rest
    trains. The runs lie in `out`/fold-k/RECIPE; `out`/plan.yaml is what `compare` then measures,
    together with the base and what needs no training. What is done is kept: a second call goes on.

    Args:
        recipes: for `adapt` or `train`, by name or path; their file names become the methods' names.
        overrides: KEY=VALUE, of all recipes.

    Raises:
        InputError: no recipe, two of one name or one for another verb; a store that is a fold itself or
            has too few groups; or as `adapt` and `train`.
    """
    kinds = {_name(recipe): (recipe, _kind(recipe)) for recipe in recipes}
    _check(recipes, kinds, store, folds)
    if any(kind is AdaptRecipe for _, kind in kinds.values()):
        _check_base(base, Store.open(f"{store}@1of{folds}"))
    for fold in range(1, folds + 1):
        data = [Path(f"{store}@{fold}of{folds}")]
        for name, (recipe, kind) in kinds.items():
            report(f"fold {fold} of {folds}: {name}")
            run = out / f"fold-{fold}" / name
            if kind is AdaptRecipe:
                adapt(recipe, data, run, base, list(overrides), report=report)
            else:
                train(recipe, data, run, list(overrides), report=report)
    path = out / PLAN
    write_text(path, yaml.safe_dump(_plan(kinds, store, out, folds, base), sort_keys=False))
    return compare(path, out, say=report)


def _check(
    recipes: Sequence[str], kinds: dict[str, tuple[str, Kind]], store: Path, folds: int
) -> None:
    """What would be met after hours of training, and what would be met only then."""
    if not recipes:
        raise InputError("RECIPE", "is missing", "name one or more: samling recipes lists them")
    if len(kinds) < len(recipes):
        raise InputError(recipes[-1], "has the name of another recipe", "rename its file")
    if wrong := [recipe for recipe, kind in kinds.values() if kind is DistillRecipe]:
        raise InputError(wrong[0], "distils a base", "name recipes of samling adapt or train")
    if fold_in(store)[1] is not None:
        raise InputError(store, "is a fold", "name the whole store")
    for fold in range(1, folds + 1):
        Store.open(f"{store}@{fold}of{folds}").close()


def _check_base(base: str, store: Store) -> None:
    """Refuse to measure adapters on images that their base was trained on."""
    try:
        check_no_leak(load_base(base).card, store, base)
    except InputError as error:
        remedy = "name another --base (litemedsam), or recipes of samling train"
        raise InputError(base, error.problem, remedy) from None


def _name(recipe: str) -> str:
    return Path(recipe).stem


def _kind(recipe: str) -> Kind:
    return kind_of(content_of(find_recipe(recipe)))


def _plan(
    kinds: dict[str, tuple[str, Kind]], store: Path, out: Path, folds: int, base: str
) -> dict[str, Any]:
    """What `compare` measures; paths as seen from `out`."""

    def from_there(path: str | Path) -> str:
        return os.path.relpath(path, out)

    methods = {name: f"fold-{{fold}}/{name}" for name in kinds}
    if any(kind is AdaptRecipe for _, kind in kinds.values()):
        methods[f"{_name(base)}, as it is"] = from_there(base) if Path(base).exists() else base
    name = Store.open(store).name
    return {
        "name": f"{name}, {folds}-fold cross-validation by group",
        "stores": {name: from_there(store)},
        "folds": folds,
        "split": "test",
        "methods": methods,
    }
