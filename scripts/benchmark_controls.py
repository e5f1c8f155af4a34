"""Two controls of the benchmark, whose outcome is known: benchmark_controls.py OUT -> OUT/controls.json.

Planted leak: BUSI's training images, mirrored and recompressed, as another store's validation images;
measuring a network on them must be refused. Shuffled labels: a network that learned from the labels of
other images must be no better than the best mask that is the same for every image.
"""

import csv
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from samling.data.case import Case
from samling.data.splits import Splits
from samling.data.store import Store, write_store
from samling.errors import InputError
from samling.evaluation.metrics import dice
from samling.evaluation.statistics import mean_ci
from samling.recipes.evaluate import evaluate
from samling.recipes.train import train

PLANTED = 40


def main(out: Path) -> None:
    """Run both and write what came of them."""
    store = Store.open(out / "BUSI.h5")
    found: dict[str, Any] = {"leak": _leak(store, out), "shuffled": _shuffled(store, out)}
    (out / "controls.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))


def _leak(store: Store, out: Path) -> dict[str, Any]:
    cases = [_copy(store.case(id), n) for n, id in enumerate(store.splits.train.ids[:PLANTED])]
    path = out / "planted.h5"
    splits = Splits.of({"val": [case.id for case in cases]})
    write_store(path, cases, splits, name="planted", classes=store.classes, licence=store.licence)
    runs = (out / "runs" / name for name in ("unet", "full-unet-BUSI-0"))
    run = next((run for run in runs if (run / "network.json").is_file()), None)
    if run is None:
        return {"refused": None, "said": "no U-Net was trained yet"}
    try:
        evaluate(str(run), path, out / "planted", "val", ["box"])
    except InputError as error:
        return {"refused": True, "said": str(error.problem)}
    return {"refused": False, "said": "measured as if nothing were wrong"}


def _copy(case: Case, number: int) -> Case:
    buffer = io.BytesIO()
    Image.fromarray(case.image[:, ::-1].astype(np.uint8)).save(buffer, "JPEG", quality=50)
    labels = None if case.labels is None else np.ascontiguousarray(case.labels[:, ::-1])
    image = np.asarray(Image.open(buffer), dtype=np.float32)
    return replace(case, id=f"planted-{number:03d}", image=image, labels=labels, group=None)


def _shuffled(store: Store, out: Path) -> dict[str, Any]:
    """Labels of training images dealt out anew, stretched to their new image."""
    rng = np.random.default_rng(0)
    ids = [id for id in store.splits.train.ids if store.case(id).labels.any()]  # type: ignore[union-attr]
    other = dict(zip(ids, rng.permutation(ids), strict=True))
    cases = [replace(store.case(id), labels=_stretched(store, other[id], id)) for id in ids]
    held = store.splits.val.ids
    splits = Splits.of({"train": ids, "val": held})
    cases += [store.case(id) for id in held]
    path = out / "shuffled.h5"
    write_store(path, cases, splits, name="shuffled", classes=store.classes, licence=store.licence)
    settings = ["network.input_size=128", "training.epochs=3", "training.prompts=[automatic]"]
    run = train("unet", [path], out / "runs" / "shuffled", settings)
    report = evaluate(str(run), out / "BUSI.h5", out / "shuffled", "val", ["auto"])
    shown = [id for id in held if _truth(store, id).any()]
    with (report.parent / "results.csv").open(encoding="utf-8") as stream:
        learned = {row["id"]: float(row["dice"]) for row in csv.DictReader(stream)}
    chance = _best_constant(store, ids, shown)
    more = [learned[id] - chance[id] for id in shown]
    difference = mean_ci(more, [store.meta(id).group for id in shown])
    return {
        "dice_lesions": float(np.mean([learned[id] for id in shown])),
        "chance": float(np.mean(list(chance.values()))),
        "difference": asdict(difference),
        "images": len(shown),
    }


def _best_constant(store: Store, train: list[str], held: Sequence[str]) -> dict[str, float]:
    """Dice by id of the best mask that is the same for every image: all that position can tell."""
    often = np.mean([_small(store, id) for id in train], axis=0)
    labels = {id: _small(store, id) > 0 for id in held}
    tried = [
        {id: dice(label, often >= share) for id, label in labels.items()}
        for share in np.linspace(0.05, 0.6, 12)
    ]
    return max(tried, key=lambda found: sum(found.values()))


def _small(store: Store, id: str) -> Any:
    label = Image.fromarray(_truth(store, id).astype(np.uint8))
    return np.asarray(label.resize((64, 64), Image.Resampling.NEAREST))


def _truth(store: Store, id: str) -> Any:
    return np.asarray(store.case(id).labels) > 0


def _stretched(store: Store, source: str, target: str) -> Any:
    height, width = store.case(target).image.shape
    label = Image.fromarray(np.asarray(store.case(source).labels, dtype=np.uint8))
    return np.asarray(label.resize((width, height), Image.Resampling.NEAREST))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
