"""What a model says of pictures that hold nothing: noise, and boxes drawn on healthy tissue.

python scripts/nothing_there.py MODEL [STORE.h5 ...]     MODEL: as for `samling evaluate`; half a minute

Automatic mode on speckle (Rayleigh noise, as it is and blurred), ten draws each; of every store the
validation images without anything in their label: in automatic mode, and asked with three boxes each.
*Looked at*: `look` of a calibrated model says that a person should see it.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import samling
from samling.data.store import Store
from samling.evaluation.protocols import AnySegmenter, truth
from samling.inference.segmenter import Object
from samling.prompts.prompt import Prompt
from samling.recipes.evaluate import split_part

SIZE = 300, 400
DRAWS = 10
BLURS = 0, 1, 2, 4, 8
BOXES = (0.3, 0.25, 0.6, 0.5), (0.15, 0.2, 0.3, 0.4), (0.1, 0.3, 0.8, 0.7)
"""x0, y0, x1, y1 as shares of the picture: of middling size, small, wide."""


def main(model: str, paths: list[str]) -> None:
    """Ask, and print a table."""
    segmenter = samling.load(model)
    print("| pictures | asked with | answers | something found | looked at |")
    print(f"|{' --- |' * 5}")
    for blur in BLURS:
        found = [segmenter.segment(speckle(blur, seed), [Prompt()]) for seed in range(DRAWS)]
        report(f"speckle, blurred by {blur} px" if blur else "speckle", "nothing", found)
    for path in paths:
        store = Store.open(Path(path))
        healthy(segmenter, store, split_part(store, "val", store.path).ids)


def healthy(segmenter: AnySegmenter, store: Store, ids: tuple[str, ...]) -> None:
    """The images of a store whose label is empty."""
    alone: list[list[Object]] = []
    boxed: list[list[Object]] = []
    for case in map(store.case, ids):
        if truth(case).any():
            continue
        encoded, (height, width) = segmenter.encode(case.image), case.image.shape
        alone.append(segmenter.segment_encoded(encoded, [Prompt()]))
        size = np.array([width, height, width, height])
        boxed += [segmenter.segment_encoded(encoded, [Prompt(box=size * box)]) for box in BOXES]
    if alone:
        report(f"{store.name}, no lesion", "nothing", alone)
        report(f"{store.name}, no lesion", "a box", boxed)


def speckle(blur: float, seed: int) -> NDArray[np.uint8]:
    """(H, W) Rayleigh noise, blurred, its values spread over all greys."""
    noise = np.random.default_rng(seed).rayleigh(size=SIZE)
    soft = cv2.GaussianBlur(noise, (0, 0), blur) if blur else noise
    return np.round(255 * (soft - soft.min()) / np.ptp(soft)).astype(np.uint8)


def report(pictures: str, asked: str, answers: list[list[Object]]) -> None:
    """One row: answers, those with an object that is not empty, those a person is sent to."""
    something = [[item for item in found if item.box is not None] for found in answers]
    looked = sum(any(o.expected and o.expected.look for o in found) for found in something)
    count = sum(map(bool, something))
    print(f"| {pictures} | {asked} | {len(answers)} | {count} | {looked} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
