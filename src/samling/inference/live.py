"""Live: a stream of frames segmented while it runs; reading, encoding and decoding of masks overlap."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from queue import Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from samling.inference.automatic import find_objects
from samling.inference.segmenter import EncodedImage, Object, Segmenter
from samling.prompts.prompt import Prompt

T = TypeVar("T")
AHEAD = 2
"""Frames that one stage may be ahead of the next: bounds memory and delay."""
CURRENT, PREVIOUS = 2 / 3, 1 / 3
CERTAIN = 4.0
"""Logits are clipped to ± this before smoothing: a certain change of one frame is followed at once."""
LEAST_QUALITY = 0.5
_LOOK_S = 0.1
MARGIN = 0.1


def ahead(items: Iterable[T], depth: int = AHEAD) -> Iterator[T]:
    """The same items; the next `depth` are computed in a thread while this one is used.

    Whoever stops asking is not held up by a source that is still waiting, for a camera or a file.
    """
    ready: Queue[Any] = Queue(depth - 1)  # and one in the hand of the thread
    stopped = Event()
    Thread(target=_fill, args=(items, ready, stopped), daemon=True).start()
    try:
        while not isinstance(item := ready.get(), _End):
            yield item
        if item.fault is not None:
            raise item.fault
    finally:
        stopped.set()


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
        objects: what was found; for a carried box exactly one, its mask perhaps empty.
    """

    number: int
    image: NDArray[np.generic]
    objects: tuple[Object, ...]


class LiveSegmenter:
    """Segments frames in their order.

    A prompt holds for the first frame. From then on the box around the mask before, a tenth larger, is
    the prompt; where the mask is empty or poor by the model's own rating, the box stays.

    Masks are smoothed over time: the logits of a frame count two thirds, those of the frame before one
    third. A result depends on two frames alone, so it never lags more than one.

    Args:
        segmenter: any.
        prompt: of the first frame; automatic if it says nothing.
        smooth: whether to.
    """

    def __init__(self, segmenter: Segmenter, prompt: Prompt, *, smooth: bool = True) -> None:
        self.segmenter, self.prompt, self.smooth = segmenter, prompt, smooth
        self._before: NDArray[np.float32] | None = None

    def stream(self, frames: Iterable[NDArray[np.generic]]) -> Iterator[LiveFrame]:
        """Segment every frame; while one is decoded, the next is encoded and a third is read."""
        for number, encoded in enumerate(ahead(map(self.segmenter.encode, ahead(frames)))):
            if number == 0:
                size = (encoded.frame.height, encoded.frame.width)
                self.segmenter.check([self.prompt], size)
            yield LiveFrame(number, encoded.plane, tuple(self._segment(encoded)))

    def _segment(self, encoded: EncodedImage) -> list[Object]:
        prompt = self.prompt
        if self.segmenter.zooms(prompt):
            found = self.segmenter.segment_encoded(encoded, [prompt])
        else:
            low, quality = self.segmenter.decode_square(encoded, [prompt])
            low = self._smoothed(low)
            found = self._objects(low, float(quality[0]), encoded)
        if not prompt.automatic and "box" in self.segmenter.card.prompts:
            self.prompt = carried(prompt, found[0])
        return found

    def _objects(
        self, low: NDArray[np.float32], quality: float, encoded: EncodedImage
    ) -> list[Object]:
        if not self.prompt.automatic:
            logits = encoded.frame.logits_to_original(low)[0]
            return [self.segmenter.object_of(logits, self.prompt, quality, encoded)]
        if self.segmenter.finds_nothing(encoded):
            return []
        return find_objects(low[0], quality, encoded, self.segmenter.card)

    def _smoothed(self, low: NDArray[np.float32]) -> NDArray[np.float32]:
        if not self.smooth:
            return low
        threshold = np.float32(self.segmenter.card.mask_threshold)
        now = np.clip(low - threshold, -CERTAIN, CERTAIN)
        before = now if self._before is None else self._before
        self._before = now
        return (CURRENT * now + PREVIOUS * before + threshold).astype(np.float32)


def carried(prompt: Prompt, found: Object) -> Prompt:
    """The prompt of the next frame: the box around the mask with a margin, or the same if it is poor."""
    if found.box is None or found.quality < LEAST_QUALITY:
        return prompt
    x0, y0, x1, y1 = found.box
    margin = MARGIN / 2 * np.array([x1 - x0, y1 - y0], dtype=np.float64)
    corners = np.array([x0, y0, x1, y1], dtype=np.float64)
    height, width = found.mask.shape
    grown = corners + np.concatenate([-margin, margin])
    return Prompt(box=np.clip(grown, 0, [width, height, width, height]))
