"""Picture hash: 32 bytes that tell one picture from another, and say less of it than any thumbnail.

The signs of the lowest frequencies, as in perceptual hashing (Zauner 2010): they survive another size,
compression, brightness and contrast, but neither borders nor crops, some not even of a hundredth.
`leaks.py` sees through crops, but needs the pictures themselves.
"""

import itertools

import cv2
import numpy as np
from numpy.typing import NDArray

from samling.data.leaks import fingerprint

FREQUENCIES = 16
"""Along each side; the mean is left out: 255 signs."""
SAME = 32
"""Signs that may differ. Copies that are not cropped differ in 21 at most, other pictures in 49 or more:
scripts/leak_check.py."""


def picture_hash(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    """(H, W) any real values -> (32,) bytes.

    Raises:
        ValueError: the image has values that are not finite.
    """
    return np.packbits(_signs(_spectrum(image)))


def known_among(hashes: NDArray[np.uint8], image: NDArray[np.generic]) -> int | None:
    """Which of (N, 32) hashes is of this picture, in any of its eight positions; None if none is.

    Raises:
        ValueError: the image has values that are not finite.
    """
    found = differing(hashes, image)
    return int(found.argmin()) if len(found) and found.min() <= SAME else None


def differing(hashes: NDArray[np.uint8], image: NDArray[np.generic]) -> NDArray[np.int64]:
    """(N,) signs, of 255, in which (N, 32) hashes differ from this picture in its best position.

    Raises:
        ValueError: the image has values that are not finite.
    """
    asked = np.stack([_signs(turned) for turned in _positions(_spectrum(image))])  # (8, 256)
    known = np.unpackbits(hashes, axis=1)  # (N, 256)
    known_sign, asked_sign = (2.0 * bits.astype(np.float32) - 1.0 for bits in (known, asked))
    agreeing_less_differing = (known_sign @ asked_sign.T).max(axis=1)
    return ((known.shape[1] - agreeing_less_differing) / 2).astype(np.int64)


def _spectrum(image: NDArray[np.generic]) -> NDArray[np.float32]:
    """(16, 16) lowest frequencies of the cosine transform."""
    return np.asarray(cv2.dct(fingerprint(image))[:FREQUENCIES, :FREQUENCIES])


def _positions(spectrum: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Of the picture mirrored and turned: a mirror image has the odd frequencies of its axis negated."""
    odd = np.where(np.arange(FREQUENCIES) % 2, -1, 1).astype(np.float32)
    signs = itertools.product((np.ones_like(odd), odd), repeat=2)
    mirrored = [spectrum * down[:, None] * across for down, across in signs]
    return [*mirrored, *(plane.T for plane in mirrored)]


def _signs(spectrum: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(256,) the first one, of the mean, always False."""
    found = spectrum.ravel() > 0
    found[0] = False
    return found
