"""Cine loops: an object is prompted on one frame, followed through the others, and corrected on any.

From frame to frame the mask becomes the next prompt, as from slice to slice of a volume (`propagate`);
but an object of a loop does not end, it moves: where the model is unsure the frame asks for help instead.
What is remembered is one answer, however long the loop.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samling.errors import InputError
from samling.inference.propagate import Answer, Mask, answer, next_prompt, overlap
from samling.inference.segmenter import EncodedImage, Segmenter
from samling.prompts.prompt import Prompt

HELP_BELOW = 0.6
"""Confidence below which a frame asks for help."""


@dataclass(frozen=True)
class Followed:
    """An object on one frame.

    Args:
        mask: (H, W); empty where the object was not found.
        quality: predicted IoU.
        confidence: 0..1, the smaller of the quality and the Dice with the mask that was carried here;
            0 for an empty mask. A drop means that the object changed faster than it can be followed.
        needs_help: whether the confidence is too low to be believed.
    """

    mask: Mask
    quality: float
    confidence: float
    needs_help: bool


class Follower:
    """Follows one object from frame to frame, live or from a file; remembers its last answer alone.

    It takes encoded frames (`Segmenter.encode`), so that several followers share one encoding.

    Args:
        segmenter: the model. help_below: confidence below which a frame asks for help.
    """

    def __init__(self, segmenter: Segmenter, help_below: float = HELP_BELOW) -> None:
        self.segmenter, self.help_below = segmenter, help_below
        self._last: Answer | None = None

    def prompt(self, frame: EncodedImage, prompt: Prompt) -> Followed:
        """Begin on this frame, or correct: from now on this answer is carried.

        Raises:
            InputError: the prompt does not fit the frame or the model.
        """
        self.segmenter.check([prompt], (frame.frame.height, frame.frame.width))
        return self._keep(answer(self.segmenter, frame, prompt), None)

    def step(self, frame: EncodedImage) -> Followed:
        """The object on the next frame, in whichever direction.

        A frame without the object is passed over: the last mask is tried again on the one after it.

        Raises:
            InputError: nothing was prompted yet, nothing was found then, or the frame's size changed.
        """
        before = self._last
        if before is None:
            raise InputError("cine", "has no object to follow", "prompt a frame where it is seen")
        if frame.plane.shape != before.mask.shape:
            problem = f"changes its size from {before.mask.shape} to {frame.plane.shape}"
            raise InputError("cine", problem, "follow loops of one size, or prompt again")
        prompt = next_prompt(self.segmenter, before, frame)
        return self._keep(answer(self.segmenter, frame, prompt), before)

    def _keep(self, now: Answer, before: Answer | None) -> Followed:
        quality = float(np.clip(now.quality, 0, 1))
        carried = 1.0 if before is None else overlap(now.mask, before.mask)
        confidence = min(quality, carried) if now.mask.any() else 0.0
        if now.mask.any():
            self._last = now
        return Followed(now.mask, quality, confidence, confidence < self.help_below)


def follow(
    segmenter: Segmenter,
    frames: Sequence[NDArray[Any]],
    prompts: Mapping[int, Prompt],
    help_below: float = HELP_BELOW,
) -> Iterator[tuple[int, Followed]]:
    """Follow one object through a loop, forwards and backwards from every prompted frame.

    A frame belongs to the prompted frame nearest to it, so that a correction acts in both directions.
    To correct, call again with one prompt more. Frames are read one at a time: memory does not grow.

    Args:
        segmenter: the model.
        frames: (H, W) each; anything with a length and frames by number.
        prompts: frame number -> prompt, at least one.
        help_below: confidence below which a frame asks for help.

    Yields:
        Frame number and the object there; from each prompted frame on, first forwards.

    Raises:
        InputError: no prompt, a frame that is not there, a prompt that does not fit, or nothing was
            found where one was given.
    """
    for anchor, before, after in spans(prompts, len(frames)):
        follower = Follower(segmenter, help_below)
        yield anchor, follower.prompt(segmenter.encode(frames[anchor]), prompts[anchor])
        for way in (after, before):
            walker = copy(follower)
            for index in way:
                yield index, walker.step(segmenter.encode(frames[index]))


def spans(prompts: Iterable[int], count: int) -> list[tuple[int, range, range]]:
    """For every prompted frame of `count`: its number, the frames that follow it backwards and forwards.

    Raises:
        InputError: there is no prompt, or one for a frame that is not there.

    >>> spans([2, 7], 10)
    [(2, range(1, -1, -1), range(3, 5)), (7, range(6, 4, -1), range(8, 10))]
    """
    anchors = sorted(prompts)
    if not anchors or anchors[0] < 0 or anchors[-1] >= count:
        problem = f"has frames 0 to {count - 1}, prompts are on {anchors or 'none'}"
        raise InputError("cine", problem, "prompt at least one frame that is there")
    borders = [0, *((one + other) // 2 + 1 for one, other in pairwise(anchors)), count]
    return [
        (anchor, range(anchor - 1, low - 1, -1), range(anchor + 1, high))
        for anchor, (low, high) in zip(anchors, pairwise(borders), strict=True)
    ]
