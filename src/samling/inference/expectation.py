"""How good a mask probably is: expected Dice with an interval, from what calibration left in the card."""

from typing import Annotated, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

LOOK_BELOW = 0.6
"""A person should look at a mask whose Dice may be lower than this."""
RARE = 0.1
"""And at one that is less sure than all but this share of the objects calibrated on. There all prompts are
on an object: of a box on tissue no curve knows anything, but the model is seldom as sure of it."""
SPREAD_AT_BEST = 0.05
NOTHING = "nothing"
"""In a calibration, beside the kinds of prompt: automatic answers that hold no object."""

Share = Annotated[float, Field(ge=0, le=1)]


class Expected(NamedTuple):
    """Dice that a mask may be expected to have against a careful person's.

    Args:
        dice, low, high: the interval, 0..1.
        rare: whether the model was hardly ever as unsure of the objects it was calibrated on.
    """

    dice: float
    low: float
    high: float
    rare: bool = False

    @property
    def reason(self) -> str | None:
        """Why a person should look at it."""
        if self.low < LOOK_BELOW:
            return f"Dice may be below {LOOK_BELOW}"
        return "less sure than of nearly all it was calibrated on" if self.rare else None

    @property
    def look(self) -> bool:
        """Whether a person should look at it."""
        return self.reason is not None


class Curve(BaseModel):
    """From a model's own quality to Dice, for one kind of prompt; see evaluation/calibration.py.

    Args:
        quality: knots, rising: those of the objects it was fitted to. dice: expected at each of them,
            never falling.
        margin: of the interval, in units of `spread`.
        objects: how many it was fitted to.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    quality: tuple[float, ...] = Field(min_length=1)
    dice: tuple[Share, ...] = Field(min_length=1)
    margin: float = Field(ge=0)
    objects: int = Field(ge=1)

    def expect(self, quality: float) -> Expected:
        """Expected Dice at this quality, and its interval."""
        dice = float(np.interp(quality, self.quality, self.dice))
        reach = self.margin * float(spread(np.float64(dice)))
        rare = quality < float(np.quantile(self.quality, RARE))
        return Expected(dice, max(0.0, dice - reach), min(1.0, dice + reach), rare)


class Calibration(BaseModel):
    """What `samling calibrate` found out.

    Args:
        level: share of images whose Dice lies in the interval.
        temperature: logits of the first of the card's `asked_kinds` are divided by it to become
            probabilities.
        store, split_hash: of the images it was fitted to; of several with + between.
        curves: by kind of prompt, and of `NOTHING`. What is not here is not promised.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    level: float = Field(gt=0, lt=1)
    temperature: float = Field(gt=0)
    store: str
    split_hash: str
    curves: dict[str, Curve]

    @property
    def nothing(self) -> Expected | None:
        """Of an automatic answer that holds no object: the share of such images that are empty."""
        curve = self.curves.get(NOTHING)
        return None if curve is None else curve.expect(1.0)


def spread(dice: np.float64) -> np.float64:
    """How far Dice may be off, up to a factor: little where it is expected to be high."""
    return 1.0 + SPREAD_AT_BEST - dice
