"""catalogue: which recipes there are, and one with every setting it has."""

import functools
from pathlib import Path
from typing import Any

import yaml

from samling.config import (
    AdaptRecipe,
    DistillRecipe,
    TrainRecipe,
    find_recipe,
    library,
    load_recipe,
    settings_of,
)

Kind = type[AdaptRecipe] | type[DistillRecipe] | type[TrainRecipe]
VERBS: dict[Kind, str] = {
    AdaptRecipe: "samling adapt: an adapter on a frozen base",
    DistillRecipe: "samling distill: a light base that learns from a large teacher",
    TrainRecipe: "samling train: a network from scratch, a baseline",
}


def listing() -> str:
    """Name and purpose of every recipe that comes with samling, by the verb that it is for."""
    found = library()
    width = max(map(len, found))
    text = []
    for kind, verb in VERBS.items():
        own = [name for name, path in found.items() if kind_of(content_of(path)) is kind]
        text += [verb, *(f"  {name:{width}}  {purpose(found[name])}" for name in own), ""]
    text.append("samling recipes NAME > mine.yaml: one to change, then named by its path.")
    return "\n".join(text)


def show(recipe: str | Path) -> str:
    """The file of a recipe as it is, and below it, as comments, the settings that it leaves alone.

    Raises:
        InputError: no such recipe, or it has mistakes.
    """
    path = find_recipe(recipe)
    content = content_of(path)
    kind = kind_of(content)
    values = load_recipe(kind, path, []).model_dump(mode="json")
    further = [
        "# Further settings, as they are if nothing is said (KEY=VALUE on the command line):"
    ]
    for key, description in settings_of(kind).items():
        if _at(content, key) is _UNSET:
            dumped = yaml.safe_dump(_at(values, key), default_flow_style=True, width=1000)
            note = f"   # {description}" if description else ""
            further.append(f"#   {key}={dumped.splitlines()[0]}{note}")
    return path.read_text(encoding="utf-8").rstrip() + "\n" + "\n".join(further)


def kind_of(content: object) -> Kind:
    """Which verb a recipe is for: the one whose sections it has."""
    keys = set(content) if isinstance(content, dict) else set()
    kinds: tuple[Kind, ...] = (AdaptRecipe, DistillRecipe, TrainRecipe)
    return max(kinds, key=lambda kind: len(keys & set(kind.model_fields)))


def content_of(path: Path) -> object:
    """What the YAML holds; a broken one is for `load_recipe` to refuse."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return {}


def purpose(path: Path) -> str:
    """The first comment of a recipe."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


_UNSET = object()


def _at(content: Any, key: str) -> Any:
    """The value at `a.b.c`, or `_UNSET`."""

    def inner(table: Any, name: str) -> Any:
        return table.get(name, _UNSET) if isinstance(table, dict) else _UNSET

    return functools.reduce(inner, key.split("."), content)
