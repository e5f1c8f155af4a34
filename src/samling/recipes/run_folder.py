"""The run folder: what was asked for and on what, written first and checked when resuming."""

import json
from pathlib import Path

from samling.atomic import write_text
from samling.config import Section, save_recipe
from samling.data.store import Store
from samling.errors import InputError
from samling.inference.card import Card
from samling.training.log import environment


def open_run(out: Path, settings: Section, stores: list[Store], base: Card) -> None:
    """Write config.yaml and environment.json, or check that they belong to the same run.

    Raises:
        InputError: `out` holds a run of other settings, other data or another base.
    """
    config = save_recipe(settings)
    data = [
        [store.name, store.content_hash] for store in stores
    ]  # in order: it decides the batches
    about = {"data": data, "base": base.name, "base_sha256": base.base_sha256}
    if (out / "config.yaml").exists() and (out / "environment.json").exists():
        before = json.loads((out / "environment.json").read_text(encoding="utf-8"))
        same = (out / "config.yaml").read_text(encoding="utf-8") == config
        if not same or any(before.get(key) != value for key, value in about.items()):
            remedy = "choose another --out, or delete that folder"
            raise InputError(out, "holds a run of other settings, data or base", remedy)
        return
    places = {"stores": [str(store.path.resolve()) for store in stores]}
    write_text(
        out / "environment.json", json.dumps(environment() | about | places, indent=2) + "\n"
    )
    write_text(out / "config.yaml", config)


def draw_curves(out: Path) -> None:
    """Loss and Dice over epochs as out/curves.png."""
    from samling.evaluation.curves import draw_curves as draw

    draw(out / "metrics.jsonl", out / "curves.png")
