"""Live: a stream of frames segmented while it runs; reading, encoding and decoding of masks overlap."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from queue import Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from samling.inference.card import PromptKind, as_calibrated
from samling.inference.cine import Followed, Follower
from samling.inference.segmenter import EncodedImage, Object, Segmenter
from samling.prompts.prompt import Prompt

T = TypeVar("T")
AHEAD = 2
"""Frames that one stage may be ahead of the next: bounds memory and delay."""
CURRENT, PREVIOUS = 2 / 3, 1 / 3
CERTAIN = 4.0
"""Logits are clipped to ± this before smoothing: a certain change of one frame is followed at once."""
_LOOK_S = 0.1
_PATIENCE_S = 5.0


def ahead(items: Iterable[T], depth: int = AHEAD) -> Generator[T, None, None]:
    """The same items; the next `depth` are computed in a thread while this one is used.

    Whoever stops asking waits for the item under way, but not for long: a camera or a file may never come.
    """
    ready: Queue[Any] = Queue(depth - 1)  # and one in the hand of the thread
    stopped = Event()
    thread = Thread(target=_fill, args=(items, ready, stopped), daemon=True)
    thread.start()
    try:
        while not isinstance(item := ready.get(), _End):
            yield item
        if item.fault is not None:
            raise item.fault
    finally:
        stopped.set()
        thread.join(_PATIENCE_S)  # a network at work while Python ends would abort it


@dataclass(frozen=True)
class _End:
    """Behind the last item; with what went wrong, if something did."""

    fault: BaseException | None = None


def _fill(items: Iterable[Any], ready: "Queue[Any]", stopped: Event) -> None:
    try:
        for item in items:
            if not _offer(item, ready, stopped):
                return
        _offer(_End(), ready, stopped)
    except BaseException as fault:  # raised again where the items are used
        _offer(_End(fault), ready, stopped)


def _offer(item: object, ready: "Queue[Any]", stopped: Event) -> bool:
    """Put it there when there is room; False if nobody wants it any more."""
    while not stopped.is_set():
        try:
            ready.put(item, timeout=_LOOK_S)
        except Full:
            continue
        return True
    return False


@dataclass(frozen=True)
class LiveFrame:
    """One frame with its objects.

    Args:
        number: from 0.
        image: (H, W) as it came.
        objects: what was found; for an object that is followed exactly one, its mask perhaps empty.
        needs_help: whether the object that is followed is not to be believed, see `Followed`.
    """

    number: int
    image: NDArray[np.generic]
    objects: tuple[Object, ...]
    needs_help: bool = False


class Smoothing:
    """Logits of a frame count two thirds, those of the frame before one third.

    A result depends on two frames alone, so it never lags more than one.

    Args:
        threshold: logit at which masks are cut.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = np.float32(threshold)
        self._before: dict[int, NDArray[np.float32]] = {}
        self._now: dict[int, NDArray[np.float32]] = {}

    def next_frame(self) -> None:
        """What comes now is of the next frame; what was not answered in the last one is forgotten."""
        self._before, self._now = self._now, {}

    def __call__(self, low: NDArray[np.float32], class_index: int = 0) -> NDArray[np.float32]:
        """Logits of one answer -> smoothed, the same shape."""
        now = np.clip(low - self.threshold, -CERTAIN, CERTAIN)
        self._now[class_index] = now
        before = self._before.get(class_index, now)
        return (CURRENT * now + PREVIOUS * before + self.threshold).astype(np.float32)


class LiveSegmenter:
    """Segments frames in their order.

    A prompt holds for the first frame; from then on the object is followed (`Follower`). Without one the
    model looks for objects in every frame. Masks are smoothed over time, but for prompts that are
    answered from a closer look, which moves with the object.

    Args:
        segmenter: any.
        prompt: of the first frame; automatic if it says nothing.
        smooth: whether to.
    """

    def __init__(self, segmenter: Segmenter, prompt: Prompt, *, smooth: bool = True) -> None:
        self.segmenter, self.prompt = segmenter, prompt
        self._smoothing = Smoothing(segmenter.card.mask_threshold) if smooth else None
        self._follower = Follower(segmenter, settle=self._smoothing)
        self._begun = False

    def stream(self, frames: Iterable[NDArray[np.generic]]) -> Iterator[LiveFrame]:
        """Segment every frame; while one is decoded, the next is encoded and a third is read.

        Raises:
            InputError: the prompt does not fit, or the size of frames changes under a followed object.
        """
        with closing(ahead(map(self.segmenter.encode, ahead(frames)))) as encodings:
            for number, encoded in enumerate(encodings):
                yield self._live(number, encoded)

    def _live(self, number: int, encoded: EncodedImage) -> LiveFrame:
        if self._smoothing is not None:
            self._smoothing.next_frame()
        if self.prompt.automatic:
            found = self.segmenter.segment_encoded(encoded, [self.prompt], self._smoothing)
            return LiveFrame(number, encoded.plane, tuple(found))
        followed, kind = self._follow(encoded)
        one = self.segmenter.object_of(followed.mask, followed.quality, encoded, kind)
        return LiveFrame(number, encoded.plane, (one,), followed.needs_help)

    def _follow(self, encoded: EncodedImage) -> tuple[Followed, PromptKind | None]:
        """The object, and the kind of prompt that found it; None: one that no calibration knows.

        Until it is found, and for models without boxes, the prompt is asked again as it was given.
        """
        if self._begun and "box" in self.segmenter.card.prompts:
            return self._follower.step(encoded), "box"
        found = self._follower.prompt(encoded, self.prompt)
        self._begun = self._begun or bool(found.mask.any())
        return found, as_calibrated(self.prompt)
