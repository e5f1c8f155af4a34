"""Pack the base that ships: 16-bit floats and its card; --ship puts it in place.

python scripts/pack_base.py OUT packed              OUT/base, as distilled, to OUT/packed (or another name)
python scripts/pack_base.py OUT packed RUN...       mean weights of runs from OUT/start, itself among them
python scripts/pack_base.py OUT --ship              OUT is the folder of scripts/base.sh

The mean of several runs from one start is often better than each (Wortsman et al. 2022, arXiv 2203.05482),
the mean of a run and its start on pictures unlike the run's (Wortsman et al. 2022, arXiv 2109.01903).
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from lg_medseg_table import scores_of
from safetensors.torch import save
from torch import Tensor

from samling.atomic import atomic_path, write_text
from samling.data.picture_hash import picture_hash
from samling.data.store import Store
from samling.errors import InputError
from samling.inference.card import Card
from samling.models.weights import read_state, sha256_of_tensors
from samling.recipes.run_folder import epochs_of
from samling.recipes.seen import SEEN

TARGET = Path(__file__).parent.parent / "src" / "samling" / "weights"
RUNS = "runs.json"
"""Names of the runs whose mean was packed."""
LICENCES = {
    "breast_busi": "article CC BY 4.0, authors: free for research",
    "thyroid_ddti": "open access, no licence text known",
    "thyroid_tg3k": "research, no licence text known",
    "fetal_hc18": "CC BY 4.0",
    "nerve_usgra": "CC BY 4.0",
    "ovary_mmotu": "research, no licence text known",
    "ct_msd_liver": "CC BY-SA 4.0, also given under CC BY-NC-SA",
}


def pack(out: Path, target: str, runs: list[str]) -> None:
    """Write OUT/TARGET/base.safetensors, base.json, seen.npy and runs.json.

    Args:
        runs: folders in OUT, of `samling adapt whole --base OUT/start`, or start itself; none: the base as
            distilled.
    """
    source, packed_to = out / ("start" if runs else "base"), out / target
    packed_to.mkdir(exist_ok=True)
    card = Card.read(source / "base.json")
    state = read_state(source / "base.safetensors")
    if runs:
        mean, threshold = mean_of([out / run for run in runs], card)
        state |= mean
        card = card.model_copy(update={"mask_threshold": threshold})
    packed = {
        key: value.half() if value.is_floating_point() else value for key, value in state.items()
    }
    with atomic_path(packed_to / "base.safetensors") as temporary:
        temporary.write_bytes(save(packed))
    stores = [Store.open(out / "stores" / f"{name}.h5") for name in card.trained_on]
    seen = [picture_hash(s.case(id).image) for s in stores for id in s.splits.train.ids]
    with atomic_path(packed_to / SEEN) as temporary, temporary.open("wb") as file:
        np.save(file, np.stack(seen))
    write_text(packed_to / RUNS, json.dumps(runs) + "\n")
    named = "; ".join(f"{name}: {LICENCES[name]}" for name in card.trained_on)
    changes = {
        "name": "base",
        "base": "base",
        "base_sha256": sha256_of_tensors(packed),
        "licence": f"teacher LiteMedSAM: Apache-2.0; images: {named}",
        "calibration": None,  # one of the start would be of other weights
    }
    card.model_copy(update=changes).save(packed_to / "base.json")  # last: with it all is there


def mean_of(runs: list[Path], start: Card) -> tuple[dict[str, Tensor], float]:
    """Weights and mask threshold, each the mean over the best epochs of runs; OUT/start may be one of them.

    Raises:
        InputError: a run began with other weights, is not finished, knows other sets, or did not tune
            what the others did.
    """
    cards, states = [], []
    for run in runs:
        name = "base" if (run / "base.json").is_file() else "adapter"
        card = Card.read(run / f"{name}.json")
        if card.base_sha256 != start.base_sha256:
            raise InputError(run, "did not begin with OUT/start", "train it with --base OUT/start")
        done, asked = epochs_of(run) or (0, 0)
        if done < asked:
            raise InputError(run, f"has {done} of {asked} epochs", "let its training finish")
        if not set(card.trained_on) <= set(start.trained_on):
            raise InputError(run, "was trained on further sets", "use those of OUT/start alone")
        cards.append(card)
        state = read_state(run / f"{name}.safetensors")
        states.append({key.removeprefix("model."): value for key, value in state.items()})
    tuned = min(map(set, states), key=len)  # the start has what is never tuned, too
    for run, state in zip(runs, states, strict=True):
        if tuned - state.keys() or (run.name != "start" and state.keys() - tuned):
            raise InputError(
                run, "tuned other weights than the others", "use `samling adapt whole`"
            )
    means = {key: torch.stack([state[key].float() for state in states]).mean(0) for key in tuned}
    return means, float(np.mean([card.mask_threshold for card in cards]))


def ship(out: Path) -> None:
    """Copy what was packed and measured beside the model card, with about.json.

    Raises:
        InputError: what was measured are other weights than those packed.
    """
    packed = Card.read(out / "packed" / "base.json")
    for path in measured(out):
        model = json.loads(path.read_text(encoding="utf-8"))["model"]
        if model["base_sha256"] != packed.base_sha256:
            remedy = f"remove {path.parents[1]}, run scripts/base.sh again"
            raise InputError(path, "is of other weights than OUT/packed", remedy)
    for name in ("base.safetensors", "base.json", SEEN):
        with atomic_path(TARGET / name) as temporary:
            shutil.copyfile(out / "packed" / name, temporary)
    text = json.dumps(about(out, packed), indent=2) + "\n"
    write_text(TARGET / "about.json", text)


def about(out: Path, card: Card) -> dict[str, Any]:
    """Data with licences and splits, recipe, environment, and Dice on validation images."""
    sets = {}
    for name in card.trained_on:
        store = Store.open(out / "stores" / f"{name}.h5")
        sets[name] = {
            "licence": LICENCES[name],
            "training_images": len(store.splits.train.ids),
            "split_hash": store.splits.hash,
            "content_hash": store.content_hash,
        }
    metrics = {
        path.parent.name: {
            protocol: score["dice"]
            for (method, protocol), score in scores_of(path).items()
            if not method and score["dice"] is not None
        }
        for path in measured(out)
    }
    return {
        "data": sets,
        "recipe": settings(out / "base"),
        "environment": environment(out / "base"),
        "mean_of": packed_runs(out / "packed"),
        "finished_with": {
            run: {"recipe": settings(out / run), "environment": environment(out / run)}
            for run in packed_runs(out / "packed")
            if run != "start"
        },
        "validation_dice": metrics,
    }


def packed_runs(packed: Path) -> list[str]:
    """The runs whose mean a packed base is; [] for the base as distilled."""
    path = packed / RUNS
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def settings(run: Path) -> Any:
    """The saved recipe of a run."""
    return yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))


def environment(run: Path) -> Any:
    """Machine, versions, commit and data of a run; not where its stores lay, which is nobody's business."""
    told = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    return {key: value for key, value in told.items() if key != "stores"}


def measured(out: Path) -> list[Path]:
    """Results of the packed base on validation images."""
    return sorted(out.glob("val/base/*/results.json"))


if __name__ == "__main__":
    folder, what, *rest = sys.argv[1:]
    ship(Path(folder)) if what == "--ship" else pack(Path(folder), what, rest)
