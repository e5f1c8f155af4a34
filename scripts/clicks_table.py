"""What clicks after a box or a point bring: where it is most wrong, with the mask before or without.

python scripts/clicks_table.py MODEL STORE.h5 ...  MODEL: as for `samling evaluate`; a minute or two a store

Validation images with something in their label; mean Dice after so many clicks, and of how many objects the
pixel that was clicked last is then as the click said (*obeyed*). *With the mask*: SAM's way,
the low-resolution logits go along with the next prompt (`Predictor.predict(mask_input=...)`). *Without*:
all prompts at once, as `samling predict --prompts FILE` gives them.
"""

import sys
from pathlib import Path

import numpy as np

import samling
from samling.data.store import Store
from samling.errors import InputError
from samling.evaluation.metrics import dice
from samling.evaluation.protocols import Answer, AnySegmenter, ask, truth
from samling.recipes.evaluate import split_part

STARTS = {
    "a box": ("box", "boxclicks1", "boxclicks2", "boxclicks3", "boxclicks5", "boxclicks10"),
    "a point": ("point1", "clicks2", "clicks3", "clicks4", "clicks6", "clicks11"),
}
SEED = 0


def main(model: str, paths: list[str]) -> None:
    """Measure and print."""
    print("| images | begun with | | alone | 1 click | 2 | 3 | 5 | 10 | obeyed: 1st | 3rd |")
    print(f"|{' --- |' * 11}")
    ways = {"with the mask": samling.load(model), "without": samling.load(model)}
    card = ways["without"].card
    kinds = tuple(kind for kind in card.prompts if kind != "mask")
    ways["without"].card = card.model_copy(update={"prompts": kinds})
    if lacking := {"box", "points"} - set(kinds):
        raise InputError(model, f"was not made for {lacking.pop()}", "give another model")
    for path in paths:
        store = Store.open(Path(path))
        for start, protocols in STARTS.items():
            for way, segmenter in ways.items():
                found, followed = scores(segmenter, store, protocols)
                means = " | ".join(f"{value:.3f}" for value in found)
                print(f"| {store.name} | {start} | {way} | {means} | {followed[1]:.0%} |", end=" ")
                print(f"{followed[3]:.0%} |", flush=True)


def scores(
    segmenter: AnySegmenter, store: Store, protocols: tuple[str, ...]
) -> tuple[list[float], list[float]]:
    """Mean Dice under each protocol, and the share of last clicks that the answer obeys."""
    found: dict[str, list[float]] = {name: [] for name in protocols}
    followed: dict[str, list[bool]] = {name: [] for name in protocols}
    for id in split_part(store, "val", store.path).ids:
        case = store.case(id)
        if not truth(case).any():
            continue
        encoded = segmenter.encode(case.image)
        for name, values in found.items():
            answer = ask(segmenter, encoded, case, name, SEED)
            if answer is not None:
                values.append(dice(truth(case), answer.mask))
                followed[name] += obeyed(answer)
    means = [float(np.mean(values)) for values in found.values()]
    return means, [float(np.mean(values or [np.nan])) for values in followed.values()]


def obeyed(answer: Answer) -> list[bool]:
    """Of every object with a click: whether its mask is at the last one as the click said."""
    asked = [
        (prompt.points[-1].astype(int), prompt.point_labels[-1], item.mask)
        for prompt, item in zip(answer.prompts, answer.objects, strict=True)
        if len(prompt.points)
    ]
    return [bool(mask[y, x]) == bool(label) for (x, y), label, mask in asked]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
