"""Segmenter: images and prompts in, objects at the image's own size out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samling.data.intensity import slab_to_model
from samling.errors import InputError
from samling.inference.arrays import grey, prompts_of
from samling.inference.backend import Backend, Encoding
from samling.inference.card import Card, PromptKind, as_calibrated, kinds_given
from samling.inference.expectation import Expected
from samling.inference.regions import box_around, objects_at_most, regions_in_reach
from samling.prompts.frame import Frame
from samling.prompts.prompt import Prompt
from samling.prompts.zoom import into_region, region_around

if TYPE_CHECKING:
    from samling.inference.predictor import Predictor

MAXIMUM_POINTS = 1_000
CERTAIN_NO = -20.0
"""Logit of a pixel that was not looked at."""
PADDING = {"black": 0.0, "mean": -1.0}
"""Value of padding in a model's input; -1 is what `Sam.encode` takes for the mean colour."""
_AT_ONCE = 32  # bounds the decoder's memory; more brings no speed

_OFFERS: dict[PromptKind, tuple[str, str]] = {
    "box": ("box prompts", "give a box"),
    "points": ("point prompts", "give points"),
    "mask": ("mask prompts", "give a mask"),
    "automatic": ("automatic mode", "give no prompt (--auto)"),
}


Settle = Callable[[NDArray[np.float32], int], NDArray[np.float32]]
"""(4h, 4w) logits of one answer and its class -> those that the mask is cut from, e.g. smoothed in time."""


@dataclass(frozen=True)
class EncodedImage:
    """An image seen once by the encoder: any number of prompts can be decoded on it."""

    encoding: Encoding
    frame: Frame
    plane: NDArray[np.generic]
    """(H, W) grey, to look again with `zoom`."""

    @property
    def presence(self) -> float | None:
        """Probability that the image holds any object; None if the model does not say."""
        logit = self.encoding.presence
        return None if logit is None else float(_sigmoid(np.max(logit)))

    def presence_of(self, class_index: int) -> float | None:
        """The same for one class, where the model tells classes apart."""
        if self.encoding.presence is None:
            return None
        logits = np.atleast_1d(self.encoding.presence)
        return float(_sigmoid(logits[min(class_index, len(logits) - 1)]))


@dataclass(frozen=True)
class Object:
    """One object found in an image.

    Args:
        mask: (H, W) bool, the image's own size.
        score: 0..1. Prompted: the predicted IoU. Automatic: mean foreground probability inside the
            mask times the image's presence probability.
        quality: predicted IoU of the decoded mask (automatic: of all objects together).
        presence: probability that the image holds any object; None if the model does not say.
        box: (x0, y0, x1, y1) around the mask in pixels, x1 and y1 exclusive; None if it is empty.
        class_name: one of the card's classes.
        expected: Dice with an interval; None if the model was not calibrated for this kind of prompt
            (of clicks that correct none is), and of an empty mask.
    """

    mask: NDArray[np.bool_]
    score: float
    quality: float
    presence: float | None
    box: tuple[int, int, int, int] | None
    class_name: str
    expected: Expected | None = None

    def certainty(self, kind: PromptKind) -> float:
        """What calibration goes by: quality, in automatic mode times presence where it is known."""
        presence = self.presence if kind == "automatic" else None
        return self.quality * (1.0 if presence is None else presence)


class Segmenter:
    """A model ready to use, whatever runs it.

    Args:
        backend: runs the encoder and the decoder.
        card: how the model must be fed and which prompts it was trained for.
        only: automatic mode looks for this class of the card alone; None: for all it tells apart.
    """

    def __init__(self, backend: Backend, card: Card, only: int | None = None) -> None:
        self.backend = backend
        self.card = card
        self.only = only

    def predict(
        self,
        image: ArrayLike,
        *,
        boxes: ArrayLike | None = None,
        points: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Segment one image. Each box is an object, all points are one; nothing: automatic.

        Args:
            image: (H, W) or (H, W, 3 | 4) RGB(A), real numbers.
            boxes: (P, 4) or (4,) x0, y0, x1, y1 in pixels, x1 and y1 exclusive.
            points: (N, 2) or (2,) x, y in pixels.
            point_labels: (N,) 1 inside, 0 outside; all inside if left out.

        Returns:
            (P, H, W) masks and (P,) scores; P is 0 if automatic mode finds nothing.

        Raises:
            InputError: the image or a prompt is unusable, or the model lacks this prompt kind.
        """
        plane = grey(image)
        objects = self.segment(plane, prompts_of(boxes, points, point_labels))
        masks = np.zeros((len(objects), *plane.shape), dtype=bool)
        for index, found in enumerate(objects):
            masks[index] = found.mask
        return masks, np.array([found.score for found in objects], dtype=np.float32)

    def segment(self, image: ArrayLike, prompts: Sequence[Prompt]) -> list[Object]:
        """One object per prompt, in their order; an automatic prompt gives any number, even none.

        Raises:
            InputError: as `predict`.
        """
        plane = grey(image)
        self.check(prompts, (plane.shape[0], plane.shape[1]))  # before the cost of encoding
        return self.segment_encoded(self.encode(plane), prompts)

    def segment_encoded(
        self, encoded: EncodedImage, prompts: Sequence[Prompt], settle: Settle | None = None
    ) -> list[Object]:
        """As `segment`, on an image that is already encoded; `settle` changes automatic answers."""
        from samling.inference.automatic import find_objects

        self.check(prompts, (encoded.frame.height, encoded.frame.width))
        prompts = self.answered(encoded, prompts)
        whole = [prompt for prompt in prompts if not self.zooms(prompt)]
        decoded = iter(zip(*self.decode_square(encoded, whole), strict=True))
        objects: list[Object] = []
        for prompt in prompts:
            if self.zooms(prompt):
                logits, quality = self.decode_zoomed(encoded, prompt)
                objects.append(self._object(logits, prompt, quality, encoded))
                continue
            low, quality = next(decoded)
            if prompt.automatic:
                index = prompt.class_index or 0
                low = self._inside(low, index, encoded)
                low = low if settle is None else settle(low, index)
                found = find_objects(low, float(quality), encoded, self.card, index)
                objects += [self._expecting(item, "automatic") for item in found]
            else:
                logits = encoded.frame.logits_to_original(low[None])[0]
                objects.append(self._object(logits, prompt, float(quality), encoded))
        return objects

    def answered(self, encoded: EncodedImage, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Automatic prompts, one per class that the model tells apart; none for what is not there."""
        found: list[Prompt] = []
        for prompt in prompts:
            if not prompt.automatic:
                found.append(prompt)
                continue
            asked = self.only if prompt.class_index is None else prompt.class_index
            for index in range(self.card.answers) if asked is None else (asked,):
                if not self.lacks(encoded, index):
                    found.append(Prompt(class_index=index))
        return found

    def lacks(self, encoded: EncodedImage, class_index: int) -> bool:
        """True if automatic mode answers before decoding: no object of this class here.

        Nor on a picture of one grey value (a probe in the air), whatever the encoder says.
        """
        if encoded.plane.min() == encoded.plane.max():
            return True
        first = 0 if self.card.automatic == "nested" else class_index
        scores = [encoded.presence_of(index) for index in range(first, class_index + 1)]
        return any(p is not None and p < self.card.presence_threshold for p in scores)

    def _inside(
        self, low: NDArray[np.float32], class_index: int, encoded: EncodedImage
    ) -> NDArray[np.float32]:
        """Logits of an inner class of nested ones, cut to the classes around it."""
        if self.card.automatic != "nested" or not class_index:
            return low
        around, _ = self.decode_square(
            encoded, [Prompt(class_index=index) for index in range(class_index)]
        )
        return np.minimum(low, around.min(axis=0))

    def zooms(self, prompt: Prompt) -> bool:
        """Whether this prompt is answered from a closer look; see `prompts.zoom`."""
        return self.card.zoom is not None and prompt.box is not None and prompt.mask is None

    def encode(self, image: ArrayLike) -> EncodedImage:
        """Run the encoder once. A model with a window takes Hounsfield units.

        Args:
            image: (H, W) or (H, W, 3 | 4); for a model of three slices (3, H, W), a slice between its
                neighbours. A slice alone stands for its neighbours, too.

        Raises:
            InputError: the image is unusable.
        """
        slab = np.asarray(image)
        several = self.card.slices == 3 and slab.ndim == 3 and len(slab) == 3
        plane = grey(slab[1] if several else slab)
        seen = slab if several else np.stack([plane] * 3) if self.card.slices == 3 else plane
        frame = Frame(plane.shape[0], plane.shape[1], self.card.input_size, self.card.fit)
        try:
            square = slab_to_model(
                seen, frame, self.card.intensity_steps, PADDING[self.card.padding]
            )
        except ValueError as error:
            raise InputError("image", str(error), "give finite pixel values") from None
        return EncodedImage(self.backend.encode(square), frame, plane)

    def decode(
        self, encoded: EncodedImage, prompts: Sequence[Prompt]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(P, H, W) mask logits at the image's own size and (P,) predicted IoU."""
        low, quality = self.decode_square(encoded, prompts)
        return encoded.frame.logits_to_original(low), quality

    def decode_square(
        self, encoded: EncodedImage, prompts: Sequence[Prompt]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(P, 4h, 4w) mask logits over the model's square and (P,) predicted IoU.

        Only prompts of the same number of tokens share a batch: padding would change the result,
        and an object's mask must not depend on which others were asked for.
        """
        side = 4 * self.card.embedding_size
        low = np.zeros((len(prompts), side, side), dtype=np.float32)
        quality = np.zeros(len(prompts), dtype=np.float32)
        padding = self.card.token_padding
        tokens = [prompt.tokens(encoded.frame, padding) for prompt in prompts]
        for batch in _batches(prompts, [len(labels) for _, labels in tokens]):
            masks = [prompts[i].mask for i in batch]
            low[batch], quality[batch] = self.backend.decode(
                encoded.encoding,
                np.stack([tokens[i][0] for i in batch]),
                np.stack([tokens[i][1] for i in batch]),
                None if masks[0] is None else np.stack([m for m in masks if m is not None]),
            )
        return low, quality

    def foreground(self, encoded: EncodedImage, prompts: Sequence[Prompt]) -> NDArray[np.float32]:
        """(H, W) probability that a pixel belongs to any of the prompted objects: the largest one."""
        whole = np.full((encoded.frame.height, encoded.frame.width), CERTAIN_NO, dtype=np.float32)
        for prompt in self.answered(encoded, prompts):
            if self.zooms(prompt):
                logits, _ = self.decode_zoomed(encoded, prompt)
            else:
                logits = self.decode(encoded, [prompt])[0][0]
            kind = as_calibrated(prompt)
            np.maximum(whole, logits / (self.card.temperature(kind) if kind else 1.0), out=whole)
        return 1.0 / (1.0 + np.exp(-whole.clip(-60, 60)))

    def check(self, prompts: Sequence[Prompt], size: tuple[int, int]) -> None:
        """Refuse prompts that do not fit an image of this (height, width) or this model.

        Raises:
            InputError: naming the prompt (from 1) and what is wrong.
        """
        most = objects_at_most(*size)
        if len(prompts) > most:
            problem = f"{len(prompts)} objects are too many for an image of this size"
            raise InputError("prompts", problem, f"give at most {most}")
        for number, prompt in enumerate(prompts, start=1):
            where = "prompt" if len(prompts) == 1 else f"prompt {number}"
            prompt.check(*size, where=where)
            if len(prompt.points) > MAXIMUM_POINTS:
                problem = f"{len(prompt.points)} points are too many for one object"
                raise InputError(where, problem, f"give at most {MAXIMUM_POINTS}")
            self.require(prompt)
            self._check_mask(prompt, where)

    def require(self, prompt: Prompt) -> None:
        """Refuse a prompt of a kind that the model was not trained for.

        Raises:
            InputError: naming the model and what it takes.
        """
        offered = self.card.prompts
        lacking = [kind for kind in kinds_given(prompt) if kind not in offered]
        if lacking:
            remedy = " or ".join(_OFFERS[other][1] for other in offered if other != "mask")
            problem = f"has no {_OFFERS[lacking[0]][0]}"
            raise InputError(self.card.name, problem, remedy or "use another model")

    def predictor(self) -> "Predictor":
        """SAM's familiar interface: `set_image`, then `predict` as often as you like."""
        from samling.inference.predictor import Predictor

        return Predictor(self)

    def cut(self, logits: NDArray[np.float32], prompt: Prompt) -> NDArray[np.bool_]:
        """(H, W) logits of one prompt -> its mask, without specks that its box does not reach."""
        mask = logits > self.card.mask_threshold
        return mask if prompt.box is None else regions_in_reach(mask, prompt.box)

    def _check_mask(self, prompt: Prompt, where: str) -> None:
        side = 4 * self.card.embedding_size
        if prompt.mask is None:
            return
        if prompt.mask.shape != (side, side) or not np.isfinite(prompt.mask).all():
            problem = f"mask of shape {prompt.mask.shape} is not ({side}, {side}) finite logits"
            raise InputError(
                where, problem, "give the low-resolution logits of an earlier prediction"
            )

    def decode_zoomed(
        self, encoded: EncodedImage, prompt: Prompt
    ) -> tuple[NDArray[np.float32], float]:
        """Encode the square around the prompt's box and decode there.

        Returns:
            (H, W) logits, outside the square those of a certain no, and the predicted IoU.

        Raises:
            ValueError: the model has no zoom or the prompt has no box.
        """
        if self.card.zoom is None or prompt.box is None:
            raise ValueError("zoom needs a model with zoom and a prompt with a box")
        height, width = encoded.plane.shape
        region = region_around(prompt.box, self.card.zoom, height, width)
        left, top, right, bottom = region
        closer = self.encode(encoded.plane[top:bottom, left:right])
        logits, quality = self.decode(closer, [into_region(prompt, region)])
        whole = np.full((height, width), CERTAIN_NO, dtype=np.float32)
        whole[top:bottom, left:right] = logits[0]
        return whole, float(quality[0])

    def _object(
        self, logits: NDArray[np.float32], prompt: Prompt, quality: float, encoded: EncodedImage
    ) -> Object:
        return self.object_of(self.cut(logits, prompt), quality, encoded, as_calibrated(prompt))

    def object_of(
        self,
        mask: NDArray[np.bool_],
        quality: float,
        encoded: EncodedImage,
        kind: PromptKind | None,
    ) -> Object:
        """The object that a mask (H, W), its predicted IoU and kind of prompt make (`as_calibrated`)."""
        made = Object(
            mask=mask,
            score=min(max(quality, 0.0), 1.0),
            quality=quality,
            presence=encoded.presence,
            box=box_around(mask),
            class_name=self.card.classes[0],
        )
        return self._expecting(made, kind)

    def _expecting(self, found: Object, kind: PromptKind | None) -> Object:
        """The object with what calibration says of its Dice, where it knows such a prompt."""
        calibration = self.card.calibration
        if calibration is None or kind is None:
            return found
        curve = calibration.curves.get(kind)
        if curve is None or found.box is None:
            return found
        return replace(found, expected=curve.expect(found.certainty(kind)))


def _batches(prompts: Sequence[Prompt], token_counts: list[int]) -> list[list[int]]:
    groups: dict[tuple[int, bool], list[int]] = {}
    for index, (prompt, count) in enumerate(zip(prompts, token_counts, strict=True)):
        groups.setdefault((count, prompt.mask is not None), []).append(index)
    return [g[i : i + _AT_ONCE] for g in groups.values() for i in range(0, len(g), _AT_ONCE)]


def _sigmoid(logit: np.float64) -> np.float64:
    return 1.0 / (1.0 + np.exp(-np.clip(logit, -60.0, 60.0)))
