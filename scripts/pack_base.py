"""Pack a distilled base as the one that ships: 16-bit floats and its card; --ship puts it in place.

python scripts/pack_base.py OUT [--ship]        OUT: the folder of scripts/base.sh
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from lg_medseg_table import scores_of
from safetensors.torch import save

from samling.atomic import atomic_path, write_text
from samling.data.picture_hash import picture_hash
from samling.data.store import Store
from samling.inference.card import Card
from samling.models.weights import read_state, sha256_of_tensors
from samling.recipes.seen import SEEN

TARGET = Path(__file__).parent.parent / "src" / "samling" / "weights"
LICENCES = {
    "breast_busi": "article CC BY 4.0, authors: free for research",
    "thyroid_ddti": "open access, no licence text known",
    "thyroid_tg3k": "research, no licence text known",
    "fetal_hc18": "CC BY 4.0",
    "nerve_usgra": "CC BY 4.0",
    "ovary_mmotu": "research, no licence text known",
    "ct_msd_liver": "CC BY-SA 4.0, also given under CC BY-NC-SA",
}


def pack(out: Path) -> None:
    """Write OUT/packed/base.safetensors, base.json and seen.npy."""
    run, packed_to = out / "base", out / "packed"
    packed_to.mkdir(exist_ok=True)
    state = read_state(run / "base.safetensors")
    packed = {
        key: value.half() if value.is_floating_point() else value for key, value in state.items()
    }
    with atomic_path(packed_to / "base.safetensors") as temporary:
        temporary.write_bytes(save(packed))
    card = Card.read(run / "base.json")
    named = "; ".join(f"{name}: {LICENCES[name]}" for name in card.trained_on)
    changes = {"name": "base", "base": "base", "base_sha256": sha256_of_tensors(packed)}
    changes["licence"] = f"teacher LiteMedSAM: Apache-2.0; images: {named}"
    card.model_copy(update=changes).save(packed_to / "base.json")
    stores = [Store.open(out / "stores" / f"{name}.h5") for name in card.trained_on]
    seen = [picture_hash(s.case(id).image) for s in stores for id in s.splits.train.ids]
    with atomic_path(packed_to / SEEN) as temporary, temporary.open("wb") as file:
        np.save(file, np.stack(seen))


def ship(out: Path) -> None:
    """Copy what was packed and measured beside the model card, with about.json."""
    for name in ("base.safetensors", "base.json", SEEN):
        with atomic_path(TARGET / name) as temporary:
            shutil.copyfile(out / "packed" / name, temporary)
    text = json.dumps(about(out, Card.read(out / "packed" / "base.json")), indent=2) + "\n"
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
        for path in sorted(out.glob("val/base/*/results.json"))
    }
    return {
        "data": sets,
        "recipe": yaml.safe_load((out / "base" / "config.yaml").read_text(encoding="utf-8")),
        "environment": json.loads((out / "base" / "environment.json").read_text(encoding="utf-8")),
        "validation_dice": metrics,
    }


if __name__ == "__main__":
    (ship if "--ship" in sys.argv else pack)(Path(sys.argv[1]))
