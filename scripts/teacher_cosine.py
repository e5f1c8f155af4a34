"""How near a base's embedding is to LiteMedSAM's on images that it was not trained on.

python scripts/teacher_cosine.py BASE STORE.h5 ...        BASE: a folder, or `base`; half a second an image

Validation images, each as the base sees it; the teacher's embedding is averaged onto the base's grid, as in
the first stage of `samling distill`. Mean cosine over cells and images, by set; 1 is the teacher's own.
"""

import sys
from pathlib import Path

import torch

from samling.data.batches import read_planes
from samling.data.store import Store
from samling.distillation.cache import to_grid
from samling.distillation.decoupled import embedding_terms
from samling.recipes.build import load_base


@torch.inference_mode()
def main(base: str, paths: list[str]) -> None:
    """Measure and print."""
    student, teacher = load_base(base), load_base("litemedsam").model
    for path in paths:
        store = Store.open(Path(path))
        val = read_planes(
            [(store, store.splits.val)], teacher.input_size, fit=student.card.fit, unlabelled=True
        )
        cosines = []
        for image in val.images:
            picture = torch.from_numpy(image)[None, None].float() / 255
            own = student.model.encode(picture).image
            wanted = to_grid(teacher.encode(picture).image, own.shape[-1])
            cosines.append(1 - embedding_terms(own, wanted)["cosine"].item())
        print(
            f"{store.name}: {sum(cosines) / len(cosines):.3f} ({len(cosines)} images)", flush=True
        )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
