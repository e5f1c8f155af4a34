"""remarks: what predict and archive say once about all images, not about each."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samling.inference.bundle import CARD
from samling.inference.card import Card
from samling.prompts.prompt import Prompt
from samling.recipes.run_folder import CARDS


def on_sureness(model: str, card: Card, window: str | None = None) -> list[str]:
    """One line where a model cannot say how good its masks are, or not of every kind of prompt.

    Args:
        model: as the user named it.
        card: of the model as it was loaded.
        window: asked for instead of its own.
    """
    if card.calibration is None:
        return [f"{model} is not calibrated: nobody knows how good a mask is; {_how(model)}"]
    if window is not None:
        return ["no expected Dice: the model was calibrated without --window"]
    lacking = [kind for kind in card.asked_kinds if kind not in card.calibration.curves]
    said = [
        f"no expected Dice for {kind}: {card.name}'s calibration leaves it out; look at every mask"
        for kind in lacking
    ]
    if len(lacking) < len(card.asked_kinds):
        sets = card.calibration.store.replace("+", ", ")
        several = "+" in card.calibration.store
        mixture = "a mixture of " if several else ""
        mixed = " (of one of these sets alone less surely)" if several else ""
        said.append(
            f"expected Dice holds on the whole for {mixture}pictures like those of {sets}{mixed} and "
            "prompts on an object, one point or a box within about 10 % of it; of other pictures, and of "
            "whether a box holds an object at all, it says nothing, and none is given after further clicks"
        )
    return said


def _how(model: str) -> str:
    if any((Path(model) / name).is_file() for name in (*CARDS, CARD)):
        return f"`samling calibrate {shlex.quote(model)} --data YOUR.h5` finds out"
    return "`samling calibrate RUN --data YOUR.h5` finds out (of a named model: `samling export` it first)"


def on_picture(name: str, pixels: NDArray[np.generic], prompts: Sequence[Prompt]) -> list[str]:
    """Lines on a picture (H, W) of one grey value, and on boxes that reach outside of it.

    Tools that round outwards reach out by a pixel: that is nothing to speak of.
    """
    height, width = pixels.shape
    said = []
    if pixels.min() == pixels.max():
        said.append(f"{name} holds one grey value only: no answer on it means anything")
    for number, prompt in enumerate(prompts, start=1):
        low, high = -1, np.array([width, height, width, height]) + 1
        if prompt.box is not None and ((prompt.box < low) | (prompt.box > high)).any():
            said.append(
                f"{name}, object {number}: the box reaches outside of the image ({width} x {height} "
                "pixels); its part inside is taken"
            )
    return said


def on_nothing(count: int, empty: int = 0) -> list[str]:
    """Lines on images where nothing was found, and on prompts answered by an empty mask.

    Args:
        count: images. empty: masks.
    """
    said = []
    if count:
        images = "1 image" if count == 1 else f"{count} images"
        said = [f"nothing was found on {images}: see look in results.csv, in the rows of object 0"]
    if empty:
        masks = "1 mask is" if empty == 1 else f"{empty} masks are"
        said.append(f"{masks} empty: nothing was found there; see area_px in results.csv")
    return said
