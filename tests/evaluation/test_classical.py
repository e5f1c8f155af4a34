"""Classical methods on pictures whose answer is known."""

import cv2
import numpy as np
import pytest

from samling.evaluation.classical import active_contour, grabcut, otsu, region_growing
from samling.evaluation.metrics import dice
from samling.prompts.prompt import Prompt

IN_A_BOX = [otsu, grabcut, region_growing, active_contour]


def picture(inside: float, outside: float, noise: float = 6.0) -> tuple[np.ndarray, np.ndarray]:
    """A noisy ellipse on even ground, and its mask."""
    rows, columns = np.indices((90, 110))
    mask = np.hypot((rows - 44.5) / 20, (columns - 54.5) / 30) <= 1
    rng = np.random.default_rng(0)
    image = np.where(mask, inside, outside) + rng.normal(0, noise, mask.shape)
    return image.astype(np.float32), mask


def around(mask: np.ndarray, margin: float = 0) -> Prompt:
    rows, columns = np.nonzero(mask)
    first = np.array([columns.min(), rows.min()], dtype=float) - margin
    last = np.array([columns.max() + 1, rows.max() + 1], dtype=float) + margin
    return Prompt(box=np.concatenate([first, last]))


@pytest.mark.parametrize("method", IN_A_BOX)
@pytest.mark.parametrize(("inside", "outside"), [(40, 160), (200, 90)])
def test_a_plain_object_is_found_dark_or_bright(method, inside: float, outside: float) -> None:
    if method is active_contour:
        pytest.importorskip("skimage")
    image, mask = picture(inside, outside)
    assert dice(mask, method(image, around(mask))) > 0.92
    assert dice(mask, method(image, around(mask, 5))) > 0.88


def test_grabcut_finds_an_object_hardly_darker_than_its_surroundings() -> None:
    """Told by the surroundings alone it calls all of it background, as in ultrasound it did."""
    image, mask = picture(100, 110, noise=12)
    assert dice(mask, grabcut(image, around(mask))) > 0.8


@pytest.mark.parametrize("method", IN_A_BOX)
def test_nothing_is_marked_outside_the_box(method) -> None:
    if method is active_contour:
        pytest.importorskip("skimage")
    image, mask = picture(40, 160)
    left = Prompt(box=np.array([20.0, 20.0, 55.0, 70.0]))
    got = method(image, left)
    assert got.shape == mask.shape and got.dtype == bool
    assert not got[:, 55:].any() and not got[:20].any()


@pytest.mark.parametrize("method", IN_A_BOX)
@pytest.mark.parametrize(
    "corners",
    [(0, 0, 110, 90), (50, 40, 51, 41), (-5, -5, 3, 3), (104, 84, 140, 120), (3, 3, 5, 4)],
)
@pytest.mark.parametrize("even", [False, True])
def test_odd_boxes_and_even_pictures_give_a_mask(method, corners, even: bool) -> None:
    if method is active_contour:
        pytest.importorskip("skimage")
    image = np.full((90, 110), 7, np.float32) if even else picture(40, 160)[0]
    got = method(image, Prompt(box=np.array(corners, dtype=float)))
    assert got.shape == (90, 110) and got.dtype == bool


@pytest.mark.parametrize("method", IN_A_BOX)
def test_the_same_answer_twice(method) -> None:
    if method is active_contour:
        pytest.importorskip("skimage")
    image, mask = picture(90, 120, noise=25)
    prompt = around(mask, 4)
    first = method(image, prompt)
    cv2.setRNGSeed(99)  # GrabCut draws from OpenCV's global generator
    np.testing.assert_array_equal(first, method(image, prompt))


def test_otsu_splits_where_opencv_does() -> None:
    image, _ = picture(40, 160, noise=0)
    window = image[24:66, 24:86]
    assert (otsu(image, Prompt(box=np.array([24.0, 24.0, 86.0, 66.0])))[24:66, 24:86]).mean() == (
        pytest.approx((window < 100).mean(), abs=0.02)
    )


def test_region_growing_starts_at_the_click_and_fills_holes() -> None:
    image, mask = picture(40, 160)
    image[42:47, 40:45] = 160
    image[:15, :15] = 40  # as dark, but not connected
    click = Prompt(points=np.array([[70.5, 44.5]]), point_labels=np.array([1]))
    got = region_growing(image, click)
    assert dice(mask, got) > 0.9
    assert got[44, 42] and not got[5, 5]


def test_clicks_outside_are_no_seeds() -> None:
    image, _ = picture(40, 160)
    both = Prompt(points=np.array([[54.5, 44.5], [5.5, 5.5]]), point_labels=np.array([1, 0]))
    assert not region_growing(image, both)[5, 5]
