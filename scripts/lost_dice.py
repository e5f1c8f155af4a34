"""Where Dice is lost with a tight box: on images of the training, too, and how near to the outline.

python scripts/lost_dice.py MODEL STORE.h5 ...      training and validation images, never test images

`1 - Dice` is the wrong pixels over the sum of both areas; they are sorted by their distance to the label's
outline, in pixels of the square that the model sees. Beside it stands what its grid of masks can show: the
label itself, shrunk to that grid and enlarged again.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

import samling
from samling.data.store import Store
from samling.errors import InputError
from samling.evaluation.metrics import dice
from samling.inference.segmenter import Segmenter
from samling.prompts.frame import Frame
from samling.prompts.sampling import objects, prompt_of

SHOWN = 100
"""So many images of either part at most, drawn at random."""
EDGES = (1.0, 2.0, 4.0)
HEADS = ("images of", "objects", "Dice", "lost within 1 px", "1 to 2", "2 to 4", "farther", "grid")
Mask = NDArray[np.bool_]


class Found(NamedTuple):
    """Of one object: Dice, what is lost by distance to the outline, and what the grid could reach."""

    dice: float
    lost: NDArray[np.float64]
    grid: float


def main() -> None:
    """Print a Markdown table."""
    model = samling.load(sys.argv[1])
    if model.card.zoom is not None or model.card.slices != 1:
        raise InputError(sys.argv[1], "sees more than one picture as it is", "name another model")
    print(f"| | {' | '.join(HEADS)} |\n| --- |{' --- |' * len(HEADS)}")
    for path in sys.argv[2:]:
        store = Store.open(path)
        for part, ids in (
            ("training", store.splits.train.ids),
            ("validation", store.splits.val.ids),
        ):
            rows = list(look(model, store, ids))
            if not rows:
                continue
            lost = np.mean([row.lost for row in rows], axis=0)
            means = [
                np.mean([row.dice for row in rows]),
                *lost,
                np.mean([row.grid for row in rows]),
            ]
            cells = " | ".join(f"{value:.3f}" for value in means)
            print(f"| {store.path.stem} | {part} | {len(rows)} | {cells} |", flush=True)


def look(model: Segmenter, store: Store, ids: Sequence[str]) -> Iterator[Found]:
    """At every object of some images, asked for by its tight box."""
    order = np.random.default_rng(0).permutation(len(ids))[:SHOWN]
    for id in (ids[index] for index in order):
        case = store.case(id)
        parts = objects(case.labels) if case.labels is not None else []
        if not parts:
            continue
        prompts = [prompt_of(part, "box", np.random.default_rng(0)) for part in parts]
        height, width = case.image.shape
        frame = Frame(height, width, model.card.input_size, model.card.fit)
        for part, object in zip(parts, model.segment(case.image, prompts), strict=True):
            yield Found(
                dice(part, object.mask), lost(part, object.mask, frame), on_grid(part, model, frame)
            )


def lost(label: Mask, mask: Mask, frame: Frame) -> NDArray[np.float64]:
    """(4,) shares of `1 - Dice`, by distance to the label's outline."""
    inside, outside = distance_transform_edt(label), distance_transform_edt(~label)
    distance = np.where(label, inside, outside) * frame.scale.mean()
    wrong = np.digitize(distance[mask != label], EDGES, right=True)
    return np.bincount(wrong, minlength=len(EDGES) + 1) / (label.sum() + mask.sum())


def on_grid(label: Mask, model: Segmenter, frame: Frame) -> float:
    """Dice of the label with itself through the grid of the model's masks."""
    side = 4 * model.card.embedding_size
    square = frame.pad(frame.image_to_model(label.astype(np.float32)))
    small = cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
    return dice(label, frame.logits_to_original(small[None])[0] > 0.5)


if __name__ == "__main__":
    main()
