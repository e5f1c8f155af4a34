"""crossval: every image but the test images measured once, by a model that has not seen it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from samling.atomic import write_text
from samling.cache import NAMED_MODELS
from samling.config import AdaptRecipe, DistillRecipe, TrainRecipe, find_recipe, load_recipe
from samling.data.splits import fold_in
from samling.data.store import Store
from samling.errors import InputError
from samling.models.families import FAMILIES
from samling.recipes.adapt import adapt
from samling.recipes.build import load_base
from samling.recipes.catalogue import Kind, content_of, kind_of
from samling.recipes.compare import Summary, compare
from samling.recipes.evaluate import check_no_leak, split_part
from samling.recipes.leaks import across_folds
from samling.recipes.prompted_training import Report
from samling.recipes.train import check_prompts, train

PLAN = "plan.yaml"
NOT_INDEPENDENT = (
    "Intervals and tests take the images as independent, which the models of the folds, with most of their "
    "training images in common, are not quite: read a p near its limit as undecided."
)


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
    """Train every recipe once per fold, by group; measure all of them on all images but the test images.

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
    _check(recipes, kinds, store, list(overrides))
    parts = [Store.open(f"{store}@{fold}of{folds}") for fold in range(1, folds + 1)]
    for part in parts:
        for split in ("val", "test"):  # every part is both in turn
            split_part(part, split, part.path)
    if any(kind is AdaptRecipe for _, kind in kinds.values()):
        _check_base(base, parts[0])
    report("looking for pictures that are in two folds")
    notes = [_counted(parts), _copies(parts), NOT_INDEPENDENT]
    for note in notes[:2]:
        report(note)
    for fold, part in enumerate(parts, start=1):
        for name, (recipe, kind) in kinds.items():
            report(f"fold {fold} of {folds}: {name}")
            run = out / f"fold-{fold}" / name
            if kind is AdaptRecipe:
                adapt(recipe, [part.path], run, base, list(overrides), report=report)
            else:
                train(recipe, [part.path], run, list(overrides), report=report)
    plan = _plan(kinds, store, out, folds, base) | {"notes": notes}
    write_text(out / PLAN, yaml.safe_dump(plan, sort_keys=False, allow_unicode=True))
    return compare(out / PLAN, out, say=report)


def _check(
    recipes: Sequence[str], kinds: dict[str, tuple[str, Kind]], store: Path, overrides: list[str]
) -> None:
    """What would be met only after hours of training."""
    if not recipes:
        raise InputError("RECIPE", "is missing", "name one or more: samling recipes lists them")
    if len(kinds) < len(recipes):
        raise InputError(recipes[-1], "has the name of another recipe", "rename its file")
    if wrong := [recipe for recipe, kind in kinds.values() if kind is DistillRecipe]:
        raise InputError(wrong[0], "distils a base", "name recipes of samling adapt or train")
    for recipe, kind in kinds.values():
        settings = load_recipe(kind, recipe, overrides)
        if isinstance(settings, TrainRecipe):
            check_prompts(settings)
    if fold_in(store)[1] is not None:
        raise InputError(store, "is a fold", "name the whole store")


def _check_base(base: str, store: Store) -> None:
    """Refuse to measure adapters on images that their base was trained on."""
    try:
        check_no_leak(load_base(base).card, store, base)
    except InputError as error:
        remedy = "name another --base (litemedsam), or recipes of samling train"
        raise InputError(base, error.problem, remedy) from None


def _counted(parts: Sequence[Store]) -> str:
    """How many images are measured, and how many are kept for the end."""
    one = parts[0].splits
    ids = [*one.train.ids, *one.val.ids, *one.test.ids]
    groups = len({parts[0].meta(id).group for id in ids})
    return (
        f"{len(ids)} images in {groups} groups, each measured once by a model that {len(one.train)} or so "
        f"of the others trained and {len(one.val)} or so chose; "
        f"{len(parts[0]) - len(ids)} test images stay out."
    )


def _copies(parts: Sequence[Store]) -> str:
    """Whether pictures are in two folds, in a sentence: groups know look-alikes, this every copy."""
    fold_of = {id: fold for fold, part in enumerate(parts) for id in part.splits.test.ids}
    found = sorted(across_folds(parts[0], fold_of), key=lambda pair: -pair[2])
    if not found:
        return "No picture was recognised in two folds."
    count = len({id for one, other, _ in found for id in (one, other)})
    named = ", ".join(f"{one} and {other}" for one, other, _ in found[:3])
    more = ", ..." if len(found) > 3 else ""
    return (
        f"{count} images seem to be copies of others in another fold ({named}{more}): scores "
        "on them flatter what was trained here."
    )


def _name(recipe: str) -> str:
    return Path(recipe).stem


def _kind(recipe: str) -> Kind:
    return kind_of(content_of(find_recipe(recipe)))


def _plan(
    kinds: dict[str, tuple[str, Kind]], store: Path, out: Path, folds: int, base: str
) -> dict[str, Any]:
    """What `compare` measures; paths as seen from `out`."""

    def from_there(path: str | Path) -> str:
        return os.path.relpath(Path(path).resolve(), out.resolve())

    methods = {name: f"fold-{{fold}}/{name}" for name in kinds}
    if any(kind is AdaptRecipe for _, kind in kinds.values()):
        family, _, path = base.rpartition(":")
        named = base.partition("@")[0] in (*NAMED_MODELS, *FAMILIES)
        placed = f"{family}:{from_there(path)}" if family in FAMILIES else from_there(base)
        methods[f"{_name(path)}, as it is"] = base if named else placed
    name = Store.open(store).name
    return {
        "name": f"{name}, {folds}-fold cross-validation by group",
        "stores": {name: from_there(store)},
        "folds": folds,
        "split": "test",
        "methods": methods,
    }
