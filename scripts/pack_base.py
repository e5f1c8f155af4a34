"""Pack what ships: 16-bit floats and a card; --ship puts it in place.

python scripts/pack_base.py OUT start               OUT/base, as distilled, to OUT/start (or another name)
python scripts/pack_base.py OUT packed PART...      mean weights of bases packed before and runs on them
                                                    (`adapt whole`); a part named twice counts twice
python scripts/pack_base.py OUT --ship              OUT/packed as `base`; OUT is base.sh's folder
python scripts/pack_base.py OUT/tiny --ship tiny    OUT/tiny/packed as `base-tiny`: what it has of its own

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
from samling.recipes.build import AUTOMATIC_WEIGHTS, ENCODER_WEIGHTS
from samling.recipes.run_folder import epochs_of
from samling.recipes.seen import SEEN

TARGET = Path(__file__).parent.parent / "src" / "samling" / "weights"
KINDS = ("", "tiny")
"""What ships: the base, and what has its decoder."""
PARTS = "parts.json"
"""Names of the parts whose mean was packed."""
LICENCES = {
    "breast_busi": "article CC BY 4.0, authors: free for research",
    "thyroid_ddti": "open access, no licence text known",
    "thyroid_tg3k": "research, no licence text known",
    "fetal_hc18": "CC BY 4.0",
    "nerve_usgra": "CC BY 4.0",
    "ovary_mmotu": "research, no licence text known",
    "ct_msd_liver": "CC BY-SA 4.0, also given under CC BY-NC-SA",
}


def pack(out: Path, target: str, parts: list[str]) -> None:
    """Write OUT/TARGET/base.safetensors, base.json, seen.npy and parts.json.

    Args:
        parts: folders in OUT; none: the base as distilled.
    """
    packed_to = out / target
    packed_to.mkdir(exist_ok=True)
    card = Card.read(out / ("start" if parts else "base") / "base.json")
    if parts:
        state, threshold = mean_of([out / part for part in parts], card.trained_on)
        card = card.model_copy(update={"mask_threshold": threshold})
    else:
        state = read_state(out / "base" / "base.safetensors")
    packed = {
        key: value.half() if value.is_floating_point() else value for key, value in state.items()
    }
    with atomic_path(packed_to / "base.safetensors") as temporary:
        temporary.write_bytes(save(packed))
    stores = [Store.open(out / "stores" / f"{name}.h5") for name in card.trained_on]
    seen = [picture_hash(s.case(id).image) for s in stores for id in s.splits.train.ids]
    with atomic_path(packed_to / SEEN) as temporary, temporary.open("wb") as file:
        np.save(file, np.stack(seen))
    named = "; ".join(f"{name}: {LICENCES[name]}" for name in card.trained_on)
    changes = {
        "name": "base",
        "base": "base",
        "base_sha256": sha256_of_tensors(packed),
        "licence": f"teacher LiteMedSAM: Apache-2.0; images: {named}",
        "calibration": None,  # one of a part would be of other weights
    }
    card.model_copy(update=changes).save(packed_to / "base.json")
    write_text(packed_to / PARTS, json.dumps(parts) + "\n")  # last: with it all is there


def bases_of(out: Path) -> dict[str, Path]:
    """The bases packed in OUT, by the hash of their weights."""
    return {Card.read(path).base_sha256: path.parent for path in sorted(out.glob("*/base.json"))}


def mean_of(parts: list[Path], sets: tuple[str, ...]) -> tuple[dict[str, Tensor], float]:
    """Weights and mask threshold, each the mean over the parts (of a run: its best epoch).

    Raises:
        InputError: a run is not finished, began with none of the bases beside it or has weights of its
            own; a part was trained on further sets than `sets`, or is of another architecture.
    """
    cards, states = [], []
    for part in parts:
        card, state = whole(part)
        if not set(card.trained_on) <= set(sets):
            raise InputError(part, "was trained on further sets", f"use {', '.join(sets)} alone")
        cards.append(card)
        states.append(state)
    for part, state in zip(parts, states, strict=True):
        if shapes(state) != shapes(states[0]):
            raise InputError(part, f"has other weights than {parts[0]}", "use bases of one recipe")
    means = {
        key: torch.stack([state[key].float() for state in states]).mean(0)
        if value.is_floating_point()
        else value
        for key, value in states[0].items()
    }
    return means, float(np.mean([card.mask_threshold for card in cards]))


def shapes(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Of each weight, by name."""
    return {name: tuple(weight.shape) for name, weight in state.items()}


def whole(part: Path) -> tuple[Card, dict[str, Tensor]]:
    """Card and every weight of a base or a run: what the run tuned, the rest from what it began with."""
    if (part / "base.json").is_file():
        return Card.read(part / "base.json"), read_state(part / "base.safetensors")
    card = Card.read(part / "adapter.json")
    began = bases_of(part.parent).get(card.base_sha256)
    if began is None:
        remedy = "train it with --base FOLDER, one that this script packed there"
        raise InputError(part, f"did not begin with a base of {part.parent}", remedy)
    done, asked = epochs_of(part) or (0, "?")
    if done != asked:
        raise InputError(part, f"has {done} of {asked} epochs", "let its training finish")
    state = read_state(began / "base.safetensors")
    tuned = read_state(part / "adapter.safetensors")
    tuned = {key.removeprefix("model."): value for key, value in tuned.items()}
    if tuned.keys() - state.keys():
        raise InputError(part, "has weights that its base lacks", "use `samling adapt whole`")
    return card, state | tuned


def ship(out: Path, kind: str = "") -> None:
    """Write what was packed and measured beside the model card, with about.json.

    Args:
        out: holds `packed` and `val`.
        kind: "": the base; "tiny": one with its decoder, into a folder of this name.

    Raises:
        InputError: nothing was measured, or other weights than those packed; or the decoder is another.
    """
    if kind not in KINDS:
        raise InputError("--ship", f"'{kind}' is unknown", "leave it out, or say tiny")
    packed = Card.read(out / "packed" / "base.json")
    if not (results := measured(out)):
        raise InputError(out / "val" / "base", "holds no results", "run scripts/base.sh")
    for path in results:
        model = json.loads(path.read_text(encoding="utf-8"))["model"]
        if model["base_sha256"] != packed.base_sha256:
            remedy = f"remove {path.parents[1]}, run scripts/base.sh again"
            raise InputError(path, "is of other weights than OUT/packed", remedy)
    told = about(out, packed)  # first: it fails where a run is not there
    state, name, target = read_state(out / "packed" / "base.safetensors"), "base", TARGET / kind
    if kind:
        state, name = own_weights(state, out), f"base-{kind}"
        told["with_the_decoder_of"] = Card.read(TARGET / "base.json").base_sha256
        target.mkdir(exist_ok=True)
    else:
        with atomic_path(TARGET / SEEN) as temporary:
            shutil.copyfile(out / "packed" / SEEN, temporary)
    with atomic_path(target / "base.safetensors") as temporary:
        temporary.write_bytes(save(state))
    packed.model_copy(update={"name": name, "base": name}).save(target / "base.json")
    write_text(target / "about.json", json.dumps(told, indent=2) + "\n")


def own_weights(state: dict[str, Tensor], where: Path) -> dict[str, Tensor]:
    """The weights of a model that are not those of the base that ships; `load_base` adds the others.

    Raises:
        InputError: among them is more than an encoder with its skips and automatic mode.
    """
    shared = read_state(TARGET / "base.safetensors")
    own = {
        key: value
        for key, value in state.items()
        if key.startswith(ENCODER_WEIGHTS)
        or key not in shared
        or not torch.equal(value, shared[key])
    }
    if not all(key.startswith((*ENCODER_WEIGHTS, *AUTOMATIC_WEIGHTS)) for key in own):
        problem = "has another decoder than the base that ships"
        raise InputError(where, problem, "distil it again from that base")
    return own


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
    means = means_of(out, "packed")
    parts = {part for found in means.values() for part in found}
    runs = {part for part in parts if not (out / part / "base.json").is_file()}
    return {
        "data": sets,
        "recipe": settings(out / "base"),
        "environment": environment(out / "base"),
        "means": means,
        "runs": {
            run: {"recipe": settings(out / run), "environment": environment(out / run)}
            for run in sorted(runs)
        },
        "validation_dice": metrics,
    }


def means_of(out: Path, target: str) -> dict[str, list[str]]:
    """Of a packed base, and of every one among its parts or that they began with: its parts.

    Each part is named as often as it counts.
    """
    path, run = out / target / PARTS, out / target / "adapter.json"
    parts = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    found = {target: parts} if parts else {}
    if run.is_file():
        began = bases_of(out).get(Card.read(run).base_sha256)
        parts = [began.name] if began else []
    for part in dict.fromkeys(parts):
        found |= means_of(out, part)
    return found


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
    ship(Path(folder), *rest) if what == "--ship" else pack(Path(folder), what, rest)
