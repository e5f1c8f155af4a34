"""Shapes become pixels: areas against geometry, mask values against what they are taken for."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from samling.data.rasterise import class_numbers, draw, fill_polygon
from samling.data.sources.entry import MaskFile, Polygon, RunLength
from samling.errors import InputError

ANGLES = np.linspace(0, 2 * np.pi, 200, endpoint=False)


def save(path: Path, values: np.ndarray, **options: int) -> Path:
    Image.fromarray(values).save(path, **options)
    return path


def test_a_rectangle_covers_exactly_its_pixels() -> None:
    inside = fill_polygon(((2, 1), (7, 1), (7, 4), (2, 4)), 6, 9)
    expected = np.zeros((6, 9), bool)
    expected[1:4, 2:7] = True
    np.testing.assert_array_equal(inside, expected)


def test_an_ellipse_has_the_area_of_an_ellipse() -> None:
    points = tuple(zip(50 + 30 * np.cos(ANGLES), 40 + 20 * np.sin(ANGLES), strict=True))
    inside = fill_polygon(points, 80, 100)
    assert inside.sum() == pytest.approx(np.pi * 30 * 20, rel=0.005)
    rows, columns = np.nonzero(inside)
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx((50, 40), abs=0.05)


def test_contours_beyond_the_image_and_degenerate_ones() -> None:
    assert fill_polygon(((-9, -9), (99, -9), (99, 99), (-9, 99)), 5, 6).all()
    assert not fill_polygon(((1, 1), (4, 4)), 5, 6).any()
    assert not fill_polygon(((1, 1), (1, 1), (1, 1)), 5, 6).any()


def test_later_shapes_lie_on_top() -> None:
    low = Polygon(((0, 0), (4, 0), (4, 4), (0, 4)), 1)
    high = Polygon(((2, 2), (6, 2), (6, 6), (2, 6)), 2)
    labels, remarks = draw((low, high), 6, 6)
    assert labels[1, 1] == 1 and labels[3, 3] == 2 and labels[0, 5] == 0 and not remarks


def test_runs_go_column_by_column() -> None:
    marks = np.zeros((3, 4), bool)
    marks[1:, 1] = True
    marks[0, 2] = True
    labels, _ = draw((RunLength((4, 3, 5), 3, 4, 7),), 3, 4)
    np.testing.assert_array_equal(labels, marks * 7)
    with pytest.raises(InputError, match="do not fit"):
        draw((RunLength((4, 3), 3, 4),), 3, 4)


def test_several_masks_are_united(tmp_path: Path) -> None:
    left, right = np.zeros((2, 5, 5), np.uint8)
    left[1, 1], right[3, 3] = 255, 255
    files = tuple(
        MaskFile(save(tmp_path / f"{name}.png", mask), label=1)
        for name, mask in (("l", left), ("r", right))
    )
    labels, remarks = draw(files, 5, 5)
    np.testing.assert_array_equal(labels, ((left > 0) | (right > 0)) * 1)
    assert {remark.severity for remark in remarks} == {"info"}


def test_an_outline_is_filled(tmp_path: Path) -> None:
    picture = Image.new("L", (100, 80))
    ImageDraw.Draw(picture).ellipse((20, 20, 80, 60), outline=255)
    picture.save(tmp_path / "e.png")
    labels, _ = draw((MaskFile(tmp_path / "e.png", label=1, outline=True),), 80, 100)
    assert labels.sum() == pytest.approx(np.pi * 30.5 * 20.5, rel=0.01)


@pytest.mark.parametrize(
    ("values", "expected", "remark"),
    [
        ([0, 255, 255], [0, 1, 1], "255 taken as class 1"),
        ([255, 255, 255], [1, 1, 1], "255 taken as class 1"),
        ([0, 65535, 0], [0, 1, 0], "65535 taken as class 1"),
        ([0, 1, 1], [0, 1, 1], ""),
        ([0, 3, 31], [0, 3, 31], ""),
        ([0, 0, 0], [0, 0, 0], ""),
    ],
)
def test_values_of_masks(values: list[int], expected: list[int], remark: str) -> None:
    labels, found = class_numbers(np.array([values], np.int32), Path("m.png"), lossy=False)
    assert labels.tolist() == [expected] and found == remark


@pytest.mark.parametrize("values", [[0, 128], [0, 1, 255], [0, 32], [-1, 1], [10, 60, 200, 90]])
def test_values_that_mean_nothing_are_refused(values: list[int]) -> None:
    with pytest.raises(InputError, match=r"m.png: is no mask: it has the values"):
        class_numbers(np.array([values], np.int32), Path("m.png"), lossy=False)


def test_jpeg_masks_and_soft_borders_are_cut_at_half(tmp_path: Path) -> None:
    disc = np.hypot(*np.mgrid[-40:40, -40:40]) < 25
    save(tmp_path / "m.jpg", disc.astype(np.uint8) * 255, quality=60)
    labels, (remark,) = draw((MaskFile(tmp_path / "m.jpg", label=1),), 80, 80)
    assert remark.severity == "warning" and "JPEG" in remark.reason
    assert (labels != disc).mean() < 0.005
    ramp = np.clip((25 - np.hypot(*np.mgrid[-40:40, -40:40])) * 160 + 127, 0, 255)
    save(tmp_path / "s.png", ramp.astype(np.uint8))
    labels, (remark,) = draw((MaskFile(tmp_path / "s.png", label=1),), 80, 80)
    assert remark.severity == "warning" and (labels != disc).mean() < 0.005


def test_class_numbers_in_a_jpeg_are_refused() -> None:
    with pytest.raises(InputError, match="changes them"):
        class_numbers(np.array([[0, 2]], np.int32), Path("m.jpg"), lossy=True)


def test_sizes_that_differ_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.zeros((5, 4), np.uint8))
    with pytest.raises(InputError, match="is 5 x 4, its image 6 x 4"):
        draw((MaskFile(path),), 6, 4)
