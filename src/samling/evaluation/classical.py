"""Classical segmentation inside a box or from a point: Otsu, GrabCut, region growing, active contour.

None of them learns and none knows the modality: which side is the object is told by the prompt.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from samling.data.intensity import min_max
from samling.prompts.prompt import Prompt

BoolArray = NDArray[np.bool_]
Image = NDArray[np.float32]
Window = tuple[slice, slice]
SMOOTHING_SHARE = 0.02
"""Gaussian sigma before intensities are compared, as a share of the box's (or image's) shorter side."""
MIDDLE_SHARE = 0.75
"""Axes of the ellipse that counts as the middle of a box, as a share of its sides."""
GRABCUT_ROUNDS = 5
GROWING_RANGE = 2.5
"""A region grows over pixels within so many standard deviations of the seed's surroundings, ..."""
LEAST_RANGE = 38.0
"""... but at least within this many of 255 grey steps."""
SEED_SHARE = 0.25
"""Side of the surroundings of a seed, as a share of the box's sides; of the image's height: a tenth."""
CONTOUR_ROUNDS = 60
_MARGIN = 0.25  # of the box, around it: what the outside looks like


def otsu(image: Image, prompt: Prompt) -> BoolArray:
    """Two grey classes in the box (Otsu 1979); the object is the one that fills the box's middle.

    Args:
        image: (H, W).
        prompt: with a box.
    """
    window = _window(prompt, image.shape)
    part = _smooth(image[window])
    _, bright = cv2.threshold(part, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    side = bright.astype(bool)
    if side[_ellipse(part.shape, MIDDLE_SHARE)].mean() < side.mean():
        side = ~side
    return _placed(_largest_filled(side), window, image.shape)


def grabcut(image: Image, prompt: Prompt) -> BoolArray:
    """GrabCut (Rother et al. 2004) by OpenCV: the surroundings of the box are background.

    The box's middle is object for certain: told by the surroundings alone, an object that is as grey as
    they are vanishes, which in ultrasound most do. Arguments as `otsu`. Where the box covers the whole
    image there is no background: all is object.
    """
    window = _window(prompt, image.shape)
    whole = _placed(np.ones(_shape(window), dtype=bool), window, image.shape)
    rows, columns = (_widened(part, size) for part, size in zip(window, image.shape, strict=True))
    inside = whole[rows, columns]
    if inside.all():
        return whole
    known = np.where(inside, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    middle = _placed(_ellipse(_shape(window), MIDDLE_SHARE), window, image.shape)
    known[middle[rows, columns]] = cv2.GC_FGD
    grey = _smooth(image[rows, columns])
    colour = np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=2))
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)  # its mixtures start at random
    nowhere = (0, 0, 1, 1)  # the mask is given instead
    cv2.grabCut(colour, known, nowhere, *models, GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    whole[rows, columns] = (known == cv2.GC_FGD) | (known == cv2.GC_PR_FGD)
    return whole


def region_growing(image: Image, prompt: Prompt) -> BoolArray:
    """What is connected to the seed and about as bright as its surroundings, holes filled.

    Args:
        image: (H, W).
        prompt: positive points are the seeds; without any, the middle of the box is. A box bounds
            the region.
    """
    window = _window(prompt, image.shape)
    smooth = _smooth(image)
    seeds = _seeds(prompt, window)
    height, width = _surroundings(prompt, window)
    grown = np.zeros(image.shape, dtype=bool)
    for row, column in seeds:
        near = smooth[
            max(0, row - height) : row + height + 1, max(0, column - width) : column + width + 1
        ].astype(np.float64)
        alike = np.abs(smooth - near.mean()) <= max(GROWING_RANGE * near.std(), LEAST_RANGE)
        alike[row, column] = True
        inside = np.zeros_like(alike)
        inside[window] = alike[window]
        numbers, _ = ndimage.label(inside)
        grown |= numbers == numbers[row, column]
    return np.asarray(ndimage.binary_fill_holes(grown))


def active_contour(image: Image, prompt: Prompt) -> BoolArray:
    """Morphological Chan-Vese contour (Marquez-Neila et al. 2014) by scikit-image.

    It starts as the ellipse in the box and never leaves the box. Arguments as `otsu`.
    """
    from skimage.segmentation import morphological_chan_vese

    window = _window(prompt, image.shape)
    rows, columns = (_widened(part, size) for part, size in zip(window, image.shape, strict=True))
    start = _placed(_ellipse(_shape(window), 1.0), window, image.shape)[rows, columns]
    part = _smooth(image[rows, columns]).astype(np.float64) / 255
    moved = morphological_chan_vese(part, CONTOUR_ROUNDS, init_level_set=start, smoothing=2)
    whole = np.zeros(image.shape, dtype=bool)
    whole[rows, columns] = moved.astype(bool)
    bounded = np.zeros_like(whole)
    bounded[window] = whole[window]
    return bounded


def _window(prompt: Prompt, shape: tuple[int, ...]) -> Window:
    """Whole pixels of the box, at least one; the whole image without a box."""
    if prompt.box is None:
        return slice(0, shape[0]), slice(0, shape[1])
    x0, y0, x1, y1 = np.rint(prompt.box).astype(int)
    top, left = min(max(y0, 0), shape[0] - 1), min(max(x0, 0), shape[1] - 1)
    return slice(top, max(min(y1, shape[0]), top + 1)), slice(
        left, max(min(x1, shape[1]), left + 1)
    )


def _shape(window: Window) -> tuple[int, int]:
    return window[0].stop - window[0].start, window[1].stop - window[1].start


def _widened(part: slice, size: int) -> slice:
    margin = max(2, round(_MARGIN * (part.stop - part.start)))
    return slice(max(0, part.start - margin), min(size, part.stop + margin))


def _grey(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    return (min_max(image) * 255).astype(np.uint8)


def _smooth(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    """(H, W) 0..255, speckle smoothed."""
    sigma = max(1.0, SMOOTHING_SHARE * min(image.shape))
    return cv2.GaussianBlur(_grey(image), (0, 0), sigma).astype(np.uint8, copy=False)


def _ellipse(shape: tuple[int, ...], share: float) -> BoolArray:
    """The upright ellipse in the middle whose axes are `share` of the sides."""
    y = (np.arange(shape[0]) + 0.5) / shape[0] * 2 - 1
    x = (np.arange(shape[1]) + 0.5) / shape[1] * 2 - 1
    return np.asarray(np.hypot(y[:, None], x[None]) <= share)


def _largest_filled(mask: BoolArray) -> BoolArray:
    numbers, count = ndimage.label(mask)
    if count == 0:
        return mask
    largest = 1 + int(np.argmax(np.bincount(numbers.ravel())[1:]))
    return np.asarray(ndimage.binary_fill_holes(numbers == largest))


def _placed(part: BoolArray, window: Window, shape: tuple[int, ...]) -> BoolArray:
    whole = np.zeros(shape, dtype=bool)
    whole[window] = part
    return whole


def _seeds(prompt: Prompt, window: Window) -> list[tuple[int, int]]:
    inside = prompt.points[prompt.point_labels == 1]
    if len(inside) == 0:
        return [((window[0].start + window[0].stop) // 2, (window[1].start + window[1].stop) // 2)]
    last = np.array([window[0].stop - 1, window[1].stop - 1])
    first = np.array([window[0].start, window[1].start])
    return [tuple(np.clip(point[::-1].astype(int), first, last).tolist()) for point in inside]


def _surroundings(prompt: Prompt, window: Window) -> tuple[int, int]:
    """Half height and half width of the surroundings of a seed, at least 2 px."""
    height, width = _shape(window)
    if prompt.box is None:
        return (max(2, height // 20),) * 2
    return max(2, int(SEED_SHARE * height / 2)), max(2, int(SEED_SHARE * width / 2))
