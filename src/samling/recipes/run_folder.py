"""The run folder: what was asked for and on what, written first and checked when resuming."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from samling.atomic import write_text
from samling.config import Section, save_recipe
from samling.errors import InputError
from samling.inference.card import Card
from samling.training.log import environment, read_metrics

if TYPE_CHECKING:
    from samling.data.store import Store

CONFIG, ENVIRONMENT = "config.yaml", "environment.json"
CARDS = ("adapter.json", "network.json", "base.json")
"""What a finished run holds one of: an adapter, a network, or a base."""


def open_run(out: Path, settings: Section, stores: list["Store"], base: Card) -> None:
    """Write config.yaml and environment.json, or check that they belong to the same run.

    Raises:
        InputError: `out` holds a run of other settings, other data or another base; it names the first
            of them. Or its card is not read any more.
    """
    config = save_recipe(settings)
    data = [
        [store.name, store.content_hash] for store in stores
    ]  # in order: it decides the batches
    about = {"data": data, "base": base.name, "base_sha256": base.base_sha256}
    if (out / CONFIG).exists() and (out / ENVIRONMENT).exists():
        before = json.loads((out / ENVIRONMENT).read_text(encoding="utf-8"))
        same = (out / CONFIG).read_text(encoding="utf-8") == config
        if not same or any(before.get(key) != value for key, value in about.items()):
            other = _other((out / CONFIG).read_text(encoding="utf-8"), config, before, about)
            remedy = "choose another --out, or delete that folder"
            raise InputError(out, f"holds a run of other settings, data or base ({other})", remedy)
        for card in CARDS:
            if (out / card).is_file():
                Card.read(out / card)  # what cannot be read at the end is not gone on with
        return
    places = {"stores": [str(store.path.resolve()) for store in stores]}
    write_text(out / ENVIRONMENT, json.dumps(environment() | about | places, indent=2) + "\n")
    write_text(out / CONFIG, config)


def _other(there: str, asked: str, before: dict[str, Any], about: dict[str, Any]) -> str:
    """What a run has and what is asked for, of the first thing in which they differ."""
    try:
        had, wanted = _flat(yaml.safe_load(there)), _flat(yaml.safe_load(asked))
    except yaml.YAMLError:
        return f"its {CONFIG} cannot be read"
    for key in {**wanted, **had}:
        old, new = had.get(key, "not known"), wanted.get(key, "not known")
        if old != new:
            return f"{key} is {old} there, {new} here"
    if before.get("data") != about["data"]:
        names = [
            ", ".join(name for name, _ in rows) for rows in (before.get("data", []), about["data"])
        ]
        contents = " with other images, labels or split" if names[0] == names[1] else ""
        return f"trained on {names[0]} there, {names[1]}{contents} here"
    if before.get("base") != about["base"]:
        return f"its base is {before.get('base')} there, {about['base']} here"
    if before.get("base_sha256") != about["base_sha256"]:
        return f"its base, {about['base']}, has other weights here"
    return f"its {CONFIG} was written by another version of samling"


def _flat(tree: Any, above: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {above: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{above}.{key}" if above else str(key))
    return flat


def epochs_of(run: Path) -> tuple[int, int] | None:
    """(done, asked for) of a run of `adapt` or `train`; None for anything else, or if nobody can tell."""
    metrics = run / "metrics.jsonl"
    try:
        config = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))
        asked = int(config["training"]["epochs"])
        return (len(read_metrics(metrics)), asked) if metrics.is_file() else None
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None


def draw_curves(out: Path) -> None:
    """Loss and Dice over epochs as out/curves.png."""
    from samling.evaluation.curves import draw_curves as draw

    draw(out / "metrics.jsonl", out / "curves.png")
