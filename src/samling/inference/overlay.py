"""Overlay: an image with the outlines, boxes and scores of its objects drawn on it."""

import functools
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from samling.atomic import atomic_path
from samling.data.intensity import min_max
from samling.errors import InputError
from samling.inference.segmenter import Object

COLOURS: tuple[tuple[int, int, int], ...] = (
    (255, 176, 0),
    (100, 143, 255),
    (220, 38, 127),
    (254, 97, 0),
    (0, 200, 150),
    (170, 120, 255),
)
"""RGB; told apart by the colour-blind and on grey."""


def draw(
    image: NDArray[np.generic], objects: Sequence[Object], classes: Sequence[str] = ()
) -> NDArray[np.uint8]:
    """(H, W) grey of any range -> (H, W, 3) RGB, every object outlined, boxed and scored.

    Args:
        classes: those of the model. If there are several, a colour is a class, and a legend says which;
            else every object has a colour of its own.
    """
    shown = (min_max(image) * 255).astype(np.uint8)
    canvas = np.ascontiguousarray(np.repeat(shown[..., None], 3, axis=2))
    several = len(classes) > 1
    for index, found in enumerate(objects):
        number = classes.index(found.class_name) if several else index
        _draw_object(canvas, found, COLOURS[number % len(COLOURS)])
    if several:
        plate = legend(tuple(classes), min(28, max(10, max(canvas.shape[:2]) // 50)))
        plate = plate[: canvas.shape[0], : canvas.shape[1]]
        canvas[-plate.shape[0] :, : plate.shape[1]] = plate
    return canvas


@functools.lru_cache(maxsize=8)  # a video needs the same one for every frame
def legend(classes: tuple[str, ...], size: int = 13) -> NDArray[np.uint8]:
    """(h, w, 3) RGB: a line per class with its colour, that of its number; `size` of letters in px."""
    font, line = ImageFont.load_default(size), round(1.4 * size)
    width = round(max(map(font.getlength, classes))) + line + 8
    image = Image.new("RGB", (width, line * len(classes) + 4))
    pen = ImageDraw.Draw(image)
    for index, name in enumerate(classes):
        middle = 2 + line * index + line // 2
        corners = (4, middle - size // 3, 4 + 2 * (size // 3), middle + size // 3)
        pen.rectangle(corners, COLOURS[index % len(COLOURS)])
        pen.text((line + 4, middle), name, (255, 255, 255), font, anchor="lm")
    return np.asarray(image)


def write_png(path: str | Path, image: NDArray[np.uint8]) -> None:
    """Write (H, W) grey or (H, W, 3) RGB as PNG, whole or not at all.

    Raises:
        InputError: the disk is full or the folder is not writable.
    """
    ordered = image[..., ::-1] if image.ndim == 3 else image
    _, encoded = cv2.imencode(".png", ordered)
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(encoded.tobytes())
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            path, f"cannot be written ({reason})", "free space or name another folder"
        ) from error


def _draw_object(canvas: NDArray[np.uint8], found: Object, colour: tuple[int, int, int]) -> None:
    if found.box is None:
        return
    side = max(canvas.shape[:2])
    line = max(1, round(side / 400))
    x0, y0, x1, y1 = found.box
    crop = np.ascontiguousarray(found.mask[y0:y1, x0:x1]).astype(np.uint8)
    contours, _ = cv2.findContours(crop, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(x0, y0))
    cv2.drawContours(canvas, contours, -1, colour, line)
    faint = tuple(channel // 2 for channel in colour)
    cv2.rectangle(canvas, (x0, y0), (x1 - 1, y1 - 1), faint, 1)
    _write(canvas, said_of(found), (x0, y0), colour)


def said_of(found: Object) -> str:
    """What stands beside an object: the Dice to expect and whether to look, or the model's own score."""
    if found.expected is None:
        return f"score {found.score:.2f}"
    return f"expected {found.expected.dice:.2f}" + (", look" if found.expected.look else "")


def _write(
    canvas: NDArray[np.uint8], text: str, corner: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    """A text on a dark plate above the corner, or below it where there is no room."""
    scale = min(1.5, max(0.4, max(canvas.shape[:2]) / 1200))
    font, thick = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(scale))
    (width, height), _ = cv2.getTextSize(text, font, scale, thick)
    x = max(0, min(corner[0], canvas.shape[1] - width - 4))
    top = corner[1] - height - 5
    top = corner[1] + 2 if top < 0 else top
    cv2.rectangle(canvas, (x, top), (x + width + 3, top + height + 3), (0, 0, 0), cv2.FILLED)
    cv2.putText(canvas, text, (x + 2, top + height + 1), font, scale, colour, thick, cv2.LINE_AA)
