"""Picture hashes: copies keep theirs, other pictures have others, positions as NumPy turns them."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samling.data.leaks import positions
from samling.data.phantom import phantom
from samling.data.picture_hash import SAME, known_among, picture_hash

PICTURES = [phantom(seed, (192, 256)).image for seed in range(12)]
HASHES = np.stack([picture_hash(picture) for picture in PICTURES])


def test_pictures_differ() -> None:
    for number, picture in enumerate(PICTURES):
        assert known_among(np.delete(HASHES, number, axis=0), picture) is None


@given(
    number=st.integers(0, 11),
    position=st.integers(0, 7),
    gamma=st.floats(0.8, 1.25),
    scale=st.floats(0.5, 1.2),
    quality=st.integers(40, 95),
)
def test_a_changed_copy_is_known(number, position, gamma, scale, quality) -> None:
    picture = PICTURES[number].astype(np.float32)
    picture = 255 * ((picture - picture.min()) / np.ptp(picture)) ** gamma
    turned = np.ascontiguousarray(positions(picture)[position]).astype(np.uint8)
    smaller = cv2.resize(turned, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    coded = cv2.imencode(".jpg", smaller, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    assert known_among(HASHES, cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)) == number


def test_signs_that_may_differ_and_one_more() -> None:
    bits = np.unpackbits(picture_hash(PICTURES[0]))
    for count, wanted in ((SAME, 0), (SAME + 1, None)):
        changed = bits.copy()
        changed[1 : 1 + count] ^= 1
        assert known_among(np.packbits(changed)[None], PICTURES[0]) == wanted


def test_nothing_is_known_of_nothing() -> None:
    assert known_among(np.zeros((0, 32), np.uint8), PICTURES[0]) is None
    assert picture_hash(np.zeros((5, 7))).tolist() == [0] * 32


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        picture_hash(np.full((8, 8), np.nan))
