"""Overlays: sheets of images with the true and the predicted outline, the prompt and the score."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from samling.atomic import atomic_path
from samling.data.intensity import min_max
from samling.prompts.prompt import Prompt

Colour = tuple[int, int, int]
Canvas = NDArray[np.uint8]
# Okabe and Ito's colours, RGB: told apart by colour-blind readers, and clear on grey.
TRUTH: Colour = (86, 180, 233)
PREDICTED: Colour = (255, 150, 0)
PROMPT: Colour = (255, 255, 255)
_INK, _PAPER = (235, 235, 235), (22, 24, 27)
TILE_PX = 400
_CAPTION_PX, _MARGIN_PX, _LEGEND_PX = 40, 10, 34


@dataclass(frozen=True)
class Tile:
    """One image of a sheet.

    Args:
        image: (H, W) grey of any range.
        label: (H, W) the truth.
        predicted: (H, W).
        prompts: as the segmenter got them, in the image's pixels.
        caption: one or two lines below.
    """

    image: NDArray[np.generic]
    label: NDArray[np.bool_]
    predicted: NDArray[np.bool_]
    prompts: Sequence[Prompt]
    caption: str


def draw_tile(tile: Tile, side: int = TILE_PX) -> Canvas:
    """(side, side, 3) RGB: the image resized to fit, outlines and prompts drawn on it."""
    height, width = tile.image.shape
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    grey = (min_max(tile.image) * 255).astype(np.uint8)
    mode = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    resized = cv2.resize(grey, size, interpolation=mode)
    drawn = np.ascontiguousarray(np.repeat(resized[..., None], 3, axis=2), dtype=np.uint8)
    # truth below and broader, so that it shows on both sides where the two agree
    _outline(drawn, tile.label, TRUTH, 4)
    _outline(drawn, tile.predicted, PREDICTED, 2)
    for prompt in tile.prompts:
        _draw_prompt(drawn, prompt, size[0] / width, size[1] / height)
    canvas = np.full((side, side, 3), _PAPER, dtype=np.uint8)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = drawn
    return canvas


def sheet(tiles: Sequence[Tile], columns: int = 3, *, side: int = TILE_PX) -> Canvas:
    """(h, w, 3) RGB: tiles with captions below, and a legend."""
    columns = max(1, min(columns, len(tiles)))
    drawn = [draw_tile(tile, side) for tile in tiles]
    drawn = [_trimmed(picture, tile, side) for picture, tile in zip(drawn, tiles, strict=True)]
    lines = [drawn[i : i + columns] for i in range(0, len(drawn), columns)]
    heights = [max(picture.shape[0] for picture in line) for line in lines]
    width = columns * (side + _MARGIN_PX) + _MARGIN_PX
    total = _LEGEND_PX + sum(heights) + len(lines) * (_CAPTION_PX + _MARGIN_PX)
    image = Image.new("RGB", (max(width, 430), total), _PAPER)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(15)
    _legend(pen, font)
    top, number = _LEGEND_PX, 0
    for line, height in zip(lines, heights, strict=True):
        for column, picture in enumerate(line):
            left = _MARGIN_PX + column * (side + _MARGIN_PX)
            image.paste(Image.fromarray(picture), (left, top))
            pen.multiline_text(
                (left, top + height + 2), tiles[number].caption, _INK, font, spacing=2
            )
            number += 1
        top += height + _CAPTION_PX + _MARGIN_PX
    return np.asarray(image)


def write_sheet(
    path: str | Path, tiles: Sequence[Tile], columns: int = 3, *, side: int = TILE_PX
) -> Path:
    """Write a sheet as PNG, whole or not at all."""
    _, encoded = cv2.imencode(".png", sheet(tiles, columns, side=side)[..., ::-1])
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded.tobytes())
    return Path(path)


def as_jpeg(path: str | Path, quality: int = 90) -> bytes:
    """A written sheet as JPEG: a quarter of the size, for embedding."""
    picture = cv2.imread(str(path))
    assert picture is not None, path
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return encoded.tobytes()


def _trimmed(picture: Canvas, tile: Tile, side: int) -> Canvas:
    """Cut the empty bands above and below a wide image."""
    height, width = tile.image.shape
    used = max(1, round(height * side / max(height, width)))
    top = (side - used) // 2
    return picture[top : top + used]


def _outline(canvas: Canvas, mask: NDArray[np.bool_], colour: Colour, thickness: int) -> None:
    size = canvas.shape[1], canvas.shape[0]
    # enlarge the mask smoothly: the outline then has no stairs, and stays where it was
    large = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) >= 0.5
    found, _ = cv2.findContours(large.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, found, -1, colour, thickness, cv2.LINE_AA)


def _draw_prompt(canvas: Canvas, prompt: Prompt, scale_x: float, scale_y: float) -> None:
    if prompt.box is not None:
        x0, y0, x1, y1 = np.rint(prompt.box * [scale_x, scale_y, scale_x, scale_y]).astype(int)
        _dashed_box(canvas, int(x0), int(y0), int(x1) - 1, int(y1) - 1)
    for (x, y), label in zip(prompt.points, prompt.point_labels, strict=True):
        centre = round(x * scale_x), round(y * scale_y)
        if label:
            cv2.circle(canvas, centre, 6, (0, 0, 0), -1, cv2.LINE_AA)
            cv2.circle(canvas, centre, 4, PROMPT, -1, cv2.LINE_AA)
        else:
            cv2.drawMarker(canvas, centre, (0, 0, 0), cv2.MARKER_TILTED_CROSS, 13, 5)
            cv2.drawMarker(canvas, centre, PROMPT, cv2.MARKER_TILTED_CROSS, 11, 2)


def _dashed_box(canvas: Canvas, x0: int, y0: int, x1: int, y1: int, dash: int = 6) -> None:
    for x in range(x0, x1, 2 * dash):
        for y in (y0, y1):
            cv2.line(canvas, (x, y), (min(x + dash, x1), y), PROMPT, 1)
    for y in range(y0, y1, 2 * dash):
        for x in (x0, x1):
            cv2.line(canvas, (x, y), (x, min(y + dash, y1)), PROMPT, 1)


def _legend(pen: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> None:
    left, middle = _MARGIN_PX, _LEGEND_PX // 2
    for colour, width, text in ((TRUTH, 5, "truth"), (PREDICTED, 3, "prediction")):
        pen.line((left, middle, left + 28, middle), colour, width)
        pen.text((left + 36, middle), text, _INK, font, anchor="lm")
        left += 60 + round(pen.textlength(text, font))
    for step in range(0, 28, 10):
        pen.line((left + step, middle, left + step + 5, middle), PROMPT, 1)
    pen.text(
        (left + 36, middle), "prompt (box; dot: inside; cross: outside)", _INK, font, anchor="lm"
    )
