import numpy as np

from samling.inference.embedding_cache import CachedBackend


def planes(count):
    return np.random.default_rng(0).random((count, 64, 64), dtype=np.float32)


def test_an_image_seen_before_is_not_encoded_again(painting_backend):
    cached = CachedBackend(painting_backend, images=2)
    a, b, c = planes(3)
    first = cached.encode(a)
    assert cached.encode(a.copy()) is first
    assert painting_backend.encoded == 1
    cached.encode(b)
    cached.encode(a)  # used last: b is the oldest now
    cached.encode(c)
    assert cached.encode(a) is first
    assert painting_backend.encoded == 3
    cached.encode(b)
    assert painting_backend.encoded == 4
    assert len(cached._kept) == 2


def test_one_changed_pixel_is_another_image(painting_backend):
    cached = CachedBackend(painting_backend)
    (plane,) = planes(1)
    changed = plane.copy()
    changed[63, 63] = np.nextafter(changed[63, 63], 2, dtype=np.float32)
    cached.encode(plane)
    cached.encode(changed)
    assert painting_backend.encoded == 2


def test_decoding_is_the_backends_own(painting_backend):
    cached = CachedBackend(painting_backend)
    encoding = cached.encode(planes(1)[0])
    coords = np.array([[[8, 8], [40, 40]]], dtype=np.float32)
    labels = np.array([[2, 3]])
    ours, theirs = (one.decode(encoding, coords, labels) for one in (cached, painting_backend))
    assert np.array_equal(ours[0], theirs[0])
