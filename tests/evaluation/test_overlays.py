"""Overlay sheets: the right colours in the right places."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from samling.evaluation.overlays import (
    PREDICTED,
    PROMPT,
    TRUTH,
    Tile,
    draw_tile,
    sheet,
    write_sheet,
)
from samling.prompts.prompt import Prompt


def tile(height: int = 60, width: int = 80, **changes) -> Tile:
    label, predicted = np.zeros((2, height, width), dtype=bool)
    label[10:30, 10:40] = True
    predicted[30:50, 40:70] = True
    box = Prompt(box=np.array([5.0, 5.0, 45.0, 35.0]))
    point = Prompt(points=np.array([[60.0, 20.0]]), point_labels=np.array([1]))
    image = np.arange(height * width, dtype=np.float32).reshape(height, width)
    content = {"image": image, "label": label, "predicted": predicted, "prompts": (box, point)}
    return Tile(**(content | {"caption": "a case\nDice 0.000"} | changes))


def near(canvas: np.ndarray, colour, x: float, y: float, reach: int = 4) -> bool:
    patch = canvas[max(0, int(y) - reach) : int(y) + reach, max(0, int(x) - reach) : int(x) + reach]
    return bool((np.abs(patch.astype(int) - colour).max(axis=2) < 40).any())


def test_outlines_and_prompts_stand_where_they_belong() -> None:
    canvas = draw_tile(tile(), 400)  # 5 px per px, bands of 50 px above and below
    assert canvas.shape == (400, 400, 3)
    assert near(canvas, TRUTH, 25 * 5, 50 + 10 * 5)
    assert near(canvas, TRUTH, 10 * 5, 50 + 20 * 5)
    assert near(canvas, PREDICTED, 55 * 5, 50 + 50 * 5)
    assert near(canvas, PROMPT, 25 * 5, 50 + 5 * 5, 7)
    assert near(canvas, PROMPT, 60 * 5, 50 + 20 * 5)
    assert not near(canvas, PREDICTED, 25 * 5, 50 + 10 * 5)


@pytest.mark.parametrize("size", [(60, 80), (80, 60), (900, 1200), (60, 900)])
def test_any_size_fits(size: tuple[int, int]) -> None:
    label = np.zeros(size, dtype=bool)
    shown = tile(*size, label=label, predicted=label, prompts=())
    assert draw_tile(shown, 200).shape == (200, 200, 3)


def test_a_mask_reaching_the_border_and_a_constant_image() -> None:
    full = np.ones((60, 80), dtype=bool)
    draw_tile(tile(image=np.full((60, 80), 7.0), label=full, predicted=full), 160)


def test_sheet_holds_every_tile_and_is_a_png(tmp_path: Path) -> None:
    tiles = [tile(caption=f"case {i}") for i in range(5)]
    picture = sheet(tiles, side=160)
    assert picture.shape[1] == 3 * 170 + 10
    path = write_sheet(tmp_path / "sheet.png", tiles)
    assert cv2.imread(str(path)).shape[2] == 3
    assert sheet(tiles[:1], side=160).ndim == 3
