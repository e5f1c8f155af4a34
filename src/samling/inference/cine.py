"""Cine loops: an object is prompted on one frame, followed through the others, and corrected on any.

From frame to frame the box around the mask becomes the next prompt. It alone: logits that are carried
on, or a much wider box, let the object grow frame by frame. It does not end as an object of a volume does
(`propagate`), it moves: where the model is unsure the frame asks for help instead. What is remembered is
one mask (`Follower`), or SAM 2's memory of a few frames (`MemoryTracker`), however long the loop.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from samling.data.intensity import to_model
from samling.errors import InputError
from samling.inference.arrays import grey
from samling.inference.propagate import Mask, answer, overlap, wider_box
from samling.inference.segmenter import EncodedImage, Segmenter, Settle
from samling.prompts.frame import Frame
from samling.prompts.prompt import Prompt
from samling.prompts.sampling import deepest_point

HELP_BELOW = 0.8
"""Confidence below which a frame asks for help."""
GROWTH = 0.02
"""A box is widened by this share of its sides before it is used on the next frame, at least 1 px."""


@dataclass(frozen=True)
class Followed:
    """An object on one frame.

    Args:
        mask: (H, W); empty where the object was not found.
        quality: predicted IoU.
        confidence: 0..1, the least of the quality, the Dice with the mask that was carried here, and the
            Dice with a second opinion; 0 for an empty mask. A drop means that the object changed faster
            than it can be followed, or that what was carried here is no object by itself.
        needs_help: whether the confidence is too low to be believed.
    """

    mask: Mask
    quality: float
    confidence: float
    needs_help: bool


class Tracker(Protocol):
    """Follows one object; frames are (H, W) and come in the order of the walk, forwards or backwards."""

    def prompt(self, frame: NDArray[Any], prompt: Prompt) -> Followed:
        """Begin on this frame, or correct: from now on this answer is carried."""
        ...

    def step(self, frame: NDArray[Any]) -> Followed:
        """The object on the next frame."""
        ...


class Follower:
    """Follows one object from frame to frame, live or from a file; remembers its last mask alone.

    A mask that drifts agrees with the one before it, and its box with it. So each is held against a second
    opinion that knows of neither: what the model says to one point, in the middle of the mask. Models
    without points have none.

    Frames are (H, W), or encoded (`Segmenter.encode`), so that several followers share one encoding.

    Args:
        segmenter: the model. help_below: confidence below which a frame asks for help.
        settle: changes logits before masks are cut, see `answer`.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        help_below: float = HELP_BELOW,
        settle: Settle | None = None,
    ) -> None:
        self.segmenter, self.help_below, self.settle = segmenter, help_below, settle
        self._last: Mask | None = None

    def prompt(self, frame: NDArray[Any] | EncodedImage, prompt: Prompt) -> Followed:
        """Begin on this frame, or correct: from now on this answer is carried.

        Raises:
            InputError: the prompt does not fit the frame or the model.
        """
        encoded = self._encoded(frame)
        self.segmenter.check([prompt], (encoded.frame.height, encoded.frame.width))
        return self._ask(encoded, prompt, None)

    def step(self, frame: NDArray[Any] | EncodedImage) -> Followed:
        """The object on the next frame, in whichever direction.

        A frame without the object is passed over: the last mask is tried again on the one after it.

        Raises:
            InputError: nothing was prompted yet, nothing was found then, or the frame's size changed.
        """
        before, encoded = self._last, self._encoded(frame)
        if before is None:
            raise _nothing_to_follow()
        _check_size(before, encoded.plane)
        return self._ask(encoded, Prompt(box=wider_box(before, GROWTH)), before)

    def _encoded(self, frame: NDArray[Any] | EncodedImage) -> EncodedImage:
        return frame if isinstance(frame, EncodedImage) else self.segmenter.encode(frame)

    def _ask(self, encoded: EncodedImage, prompt: Prompt, before: Mask | None) -> Followed:
        now = answer(self.segmenter, encoded, prompt, self.settle)
        if now.mask.any():
            self._last = now.mask
        second = self._second_opinion(encoded, now.mask)
        return _judged(now.mask, now.quality, [before, second], self.help_below)

    def _second_opinion(self, encoded: EncodedImage, mask: Mask) -> Mask | None:
        if "points" not in self.segmenter.card.prompts or not mask.any():
            return None
        point = Prompt(points=deepest_point(mask)[None], point_labels=np.ones(1, dtype=np.int64))
        return answer(self.segmenter, encoded, point).mask


class Memory(Protocol):
    """What `samling.models.sam2_video.Sam2Memory` offers; see there."""

    size: int

    def start(
        self, image: NDArray[np.float32], coords: NDArray[np.float32], labels: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], float]:
        """Mask logits over the square, and how sure the object is there, on the prompted frame."""
        ...

    def step(self, image: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
        """The same on the next frame."""
        ...


class MemoryTracker:
    """Follows one object with SAM 2's memory of earlier frames.

    As quality counts how sure the model is that the object is in the frame.

    Args:
        memory: SAM 2's video mode. help_below: confidence below which a frame asks for help.
    """

    def __init__(self, memory: Memory, help_below: float = HELP_BELOW) -> None:
        self.memory, self.help_below = memory, help_below
        self._last: Mask | None = None

    def prompt(self, frame: NDArray[Any], prompt: Prompt) -> Followed:
        """Begin on this frame with a box or points; earlier frames are forgotten.

        Raises:
            InputError: neither a box nor points, or a frame that is no picture.
        """
        plane = grey(frame)
        if prompt.automatic or prompt.mask is not None:
            raise InputError("cine", "SAM 2 is asked with boxes and points", "give one of them")
        square = self._frame(plane)
        coords, labels = prompt.check(*plane.shape).tokens(square)
        asked = labels >= 0  # it adds its padding itself
        image = to_model(plane, square)
        return self._answer(square, self.memory.start(image, coords[asked], labels[asked]), None)

    def step(self, frame: NDArray[Any]) -> Followed:
        """The object on the next frame.

        Raises:
            InputError: nothing was prompted yet, or the frame's size changed.
        """
        plane, before = grey(frame), self._last
        if before is None:
            raise _nothing_to_follow()
        _check_size(before, plane)
        square = self._frame(plane)
        return self._answer(square, self.memory.step(to_model(plane, square)), before)

    def _frame(self, plane: NDArray[Any]) -> Frame:
        return Frame(plane.shape[0], plane.shape[1], self.memory.size, "stretch")

    def _answer(
        self, square: Frame, found: tuple[NDArray[np.float32], float], before: Mask | None
    ) -> Followed:
        low, present = found
        self._last = square.logits_to_original(low[None])[0] > 0
        return _judged(self._last, present, [before], self.help_below)


def _judged(
    mask: Mask, quality: float, others: Sequence[Mask | None], help_below: float
) -> Followed:
    """With a confidence from its quality and how far it agrees with other masks, where there are any."""
    quality = float(np.clip(quality, 0, 1))
    agreement = [overlap(mask, other) for other in others if other is not None]
    confidence = float(min([quality, *agreement])) if mask.any() else 0.0
    return Followed(mask, quality, confidence, confidence < help_below)


def _nothing_to_follow() -> InputError:
    return InputError("cine", "has no object to follow", "prompt a frame where it is seen")


def _check_size(before: Mask, plane: NDArray[Any]) -> None:
    if plane.shape != before.shape:
        problem = f"changes its size from {before.shape} to {plane.shape}"
        raise InputError("cine", problem, "follow loops of one size, or prompt again")


def follow(
    tracker: Tracker, frames: Sequence[NDArray[Any]], prompts: Mapping[int, Prompt]
) -> Iterator[tuple[int, Followed]]:
    """Follow one object through a loop, forwards and backwards from every prompted frame.

    A frame belongs to the prompted frame nearest to it, so that a correction acts in both directions.
    To correct, call again with one prompt more. Frames are read one at a time: memory does not grow.

    Args:
        tracker: `Follower(segmenter)`, or `MemoryTracker(memory)`.
        frames: (H, W) each; anything with a length and frames by number.
        prompts: frame number -> prompt, at least one.

    Yields:
        Frame number and the object there; from each prompted frame on, first forwards.

    Raises:
        InputError: no prompt, a frame that is not there, a prompt that does not fit, or nothing was
            found where one was given.
    """
    for anchor, before, after in spans(prompts, len(frames)):
        yield anchor, tracker.prompt(frames[anchor], prompts[anchor])
        for index in after:
            yield index, tracker.step(frames[index])
        if before:
            tracker.prompt(frames[anchor], prompts[anchor])  # once more, for the way back
        for index in before:
            yield index, tracker.step(frames[index])


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
