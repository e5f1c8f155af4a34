"""Leaks: a planted copy is found whatever was done to it; other pictures are not accused."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from samling.data.leaks import find_leaks, fingerprint, positions
from samling.data.readers.image import read_image

COPIES = 100


def picture(seed: int, size: tuple[int, int] = (120, 160)) -> np.ndarray:
    """Speckle over a depth gradient and a few blobs: pictures that resemble each other in the large."""
    generator = np.random.default_rng(seed)
    blobs = gaussian_filter(generator.normal(size=size), 8)
    speckle = gaussian_filter(generator.normal(size=size), 1.5)
    depth = np.linspace(1, 0, size[0])[:, None]
    image = 140 * depth + 30 * blobs / blobs.std() + 10 * speckle / speckle.std() + 40
    return np.clip(image, 0, 255).astype(np.uint8)


def recompressed(image: np.ndarray, quality: int = 40) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image, dtype=np.uint8)).save(
        buffer, "JPEG", quality=quality
    )
    return np.asarray(Image.open(buffer))


def cropped(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """5 % of each side gone, from wherever."""
    height, width = image.shape
    down, across = round(0.05 * height), round(0.05 * width)
    top, left = generator.integers(down + 1), generator.integers(across + 1)
    return image[top : height - down + top, left : width - across + left]


def changed(image: np.ndarray, number: int) -> np.ndarray:
    generator = np.random.default_rng(number)
    changes = [
        lambda: image,
        lambda: image[:, ::-1],
        lambda: np.rot90(image, 1 + number % 3),
        lambda: cropped(image, generator),
        lambda: recompressed(image),
        lambda: recompressed(cropped(np.rot90(image)[::-1], generator)),
    ]
    return changes[number % len(changes)]()


def test_a_planted_copy_is_found_a_hundred_times_of_a_hundred_and_nothing_else() -> None:
    own = [picture(seed) for seed in range(COPIES)]
    copies = [changed(image, number) for number, image in enumerate(own)]
    others = [picture(1000 + seed) for seed in range(COPIES)]
    leaks = find_leaks([fingerprint(i) for i in own], [fingerprint(i) for i in copies + others])
    assert [(leak.first, leak.second) for leak in leaks] == [(n, n) for n in range(COPIES)]


def test_the_eight_positions_differ() -> None:
    plane = fingerprint(picture(0))
    assert len({position.tobytes() for position in positions(plane)}) == 8


def test_flat_pictures_and_empty_lists_match_nothing() -> None:
    flat = [fingerprint(np.full((50, 50), value)) for value in (0, 255)]
    assert find_leaks(flat, flat) == find_leaks([], flat) == find_leaks(flat, []) == []


@pytest.mark.parametrize("name", ["breast_busi", "thyroid_ddti", "nerve_usgra", "ct_msd_liver"])
def test_on_real_images(shared_data, name) -> None:
    """Copies of twelve are found among thirty; scripts/leak_check.py asks all."""
    files = sorted((shared_data / name / "images").glob("*.png"))
    files = files[:: len(files) // 25][:30]
    images = [read_image(path)[0] for path in files]
    copies = [changed(image, number) for number, image in enumerate(images[:12])]
    leaks = find_leaks([fingerprint(i) for i in images], [fingerprint(i) for i in copies])
    assert {leak.second for leak in leaks if leak.first == leak.second} == set(range(12))
