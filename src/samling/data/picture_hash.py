"""Picture hash: 32 bytes that tell one picture from another, and that no picture can be made of.

The signs of the lowest frequencies, as in perceptual hashing (Zauner 2010): they survive another size,
compression, brightness and contrast. A copy that was cropped by more than a fiftieth is not recognised;
`leaks.py` does that, but needs the pictures themselves.
"""

import itertools

import cv2
import numpy as np
from numpy.typing import NDArray

from samling.data.leaks import fingerprint

FREQUENCIES = 16
"""Along each side; the mean is left out: 255 signs."""
SAME = 32
"""Signs that may differ. Changed copies differ in 19 at most, other pictures in 52 or more:
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
    if not len(hashes):
        return None
    asked = np.stack([_signs(turned) for turned in _positions(_spectrum(image))])  # (8, 256)
    known = np.unpackbits(hashes, axis=1)  # (N, 256)
    plus_minus = [2.0 * bits.astype(np.float32) - 1.0 for bits in (known, asked)]
    differing = (known.shape[1] - plus_minus[0] @ plus_minus[1].T) / 2  # (N, 8)
    best = int(differing.min(axis=1).argmin())
    return best if differing[best].min() <= SAME else None


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
