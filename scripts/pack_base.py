"""Pack a distilled base as the one that ships: 16-bit floats, its own hash, its card.

python scripts/pack_base.py runs/light "LICENCE OF TEACHER AND IMAGES"
"""

import sys
from pathlib import Path

from safetensors.torch import save

from samling.atomic import atomic_path
from samling.inference.card import Card
from samling.models.weights import read_state, sha256_of_tensors

TARGET = Path(__file__).parent.parent / "src" / "samling" / "weights"


def main(run: Path, licence: str) -> None:
    """Write base.safetensors and base.json beside the model card."""
    state = read_state(run / "base.safetensors")
    packed = {
        key: value.half() if value.is_floating_point() else value for key, value in state.items()
    }
    with atomic_path(TARGET / "base.safetensors") as temporary:
        temporary.write_bytes(save(packed))
    card = Card.read(run / "base.json")
    changes = {"name": "base", "base": "base", "base_sha256": sha256_of_tensors(packed)}
    changes["licence"] = licence
    card.model_copy(update=changes).save(TARGET / "base.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
