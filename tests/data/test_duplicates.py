"""Near-duplicates: planted ones are found, unrelated speckle is not, and 5,000 take seconds."""

import csv
import io
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom

from samling.data.duplicates import Pair, merge_groups, near_duplicates, thumbnail


def picture(seed: int, size: tuple[int, int] = (120, 160)) -> np.ndarray:
    """Speckle over a depth gradient and a few blobs: pictures that resemble each other in the large."""
    generator = np.random.default_rng(seed)
    blobs = gaussian_filter(generator.normal(size=size), 8)
    speckle = gaussian_filter(generator.normal(size=size), 1.5)
    depth = np.linspace(1, 0, size[0])[:, None]
    image = 140 * depth + 30 * blobs / blobs.std() + 10 * speckle / speckle.std() + 40
    return np.clip(image, 0, 255).astype(np.uint8)


def as_jpeg(image: np.ndarray, quality: int = 40) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def with_caliper(image: np.ndarray) -> np.ndarray:
    marked = image.copy()
    marked[40:44, 30:60] = 255
    marked[5:12, 100:150] = 255
    return marked


CHANGES = {
    "same": lambda image: image,
    "mirrored": lambda image: image[:, ::-1],
    "recompressed": as_jpeg,
    "mirrored and recompressed": lambda image: as_jpeg(image[:, ::-1]),
    "resized": lambda image: zoom(image, 0.7, order=1),
    "brighter": lambda image: np.clip(image * 1.2 + 10, 0, 255),
    "annotated": with_caliper,
    "cropped a little": lambda image: image[2:-2, 3:-2],
    "sixteen bits": lambda image: image.astype(np.uint16) * 257,
}


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_planted_duplicate_is_found_and_nothing_else(change: str) -> None:
    pictures = [picture(seed) for seed in range(40)]
    pictures.append(CHANGES[change](pictures[7]))
    pairs = near_duplicates([thumbnail(image) for image in pictures])
    assert [(pair.first, pair.second) for pair in pairs] == [(7, 40)]
    assert pairs[0].mirrored == change.startswith("mirrored")


def test_flat_pictures_match_nothing() -> None:
    flat = [thumbnail(np.full((50, 50), value, np.uint8)) for value in (0, 0, 255)]
    assert near_duplicates(flat) == []
    assert near_duplicates([]) == near_duplicates(flat[:1]) == []


def test_ct_asks_for_more_likeness() -> None:
    first = picture(1).astype(float)
    other = 0.6 * first + 0.4 * picture(2) + np.random.default_rng(0).normal(0, 6, first.shape)
    thumbnails = [thumbnail(first), thumbnail(other)]
    (pair,) = near_duplicates(thumbnails)
    assert pair.similarity < 0.9
    assert near_duplicates(thumbnails, ["ct", "ct"]) == []


def test_groups_join_over_chains() -> None:
    pairs = [Pair(0, 2, 0.9, False), Pair(2, 3, 0.9, False)]
    assert merge_groups(["d", "b", "a", "c", "b"], pairs) == ["a", "b", "a", "a", "b"]


def test_a_patient_joins_groups_and_a_group_joins_patients() -> None:
    groups = ["a", "b", "c", "c", "e", "f"]
    patients = ["1", "1", "2", "3", "3", None]
    assert merge_groups(groups, [], patients) == ["a", "a", "c", "c", "c", "f"]
    assert merge_groups(groups, [Pair(1, 4, 0.9, False)], patients) == [*"aaaaa", "f"]


def test_five_thousand_pictures_take_seconds() -> None:
    generator = np.random.default_rng(0)
    many = list(generator.normal(size=(5000, 32, 32)).astype(np.float32))
    many[4999] = many[17][:, ::-1]
    start = time.monotonic()
    pairs = near_duplicates(many)
    assert time.monotonic() - start < 30
    assert [(pair.first, pair.second) for pair in pairs] == [(17, 4999)]


def test_known_groups_of_busi(shared_data: Path) -> None:
    """Groups that other people found in BUSI: most are found again, none is joined wrongly."""
    folder = shared_data / "breast_busi"
    with (folder / "meta.csv").open() as file:
        group = {row["id"]: row["group_id"] for row in csv.DictReader(file)}
    ids = sorted(group)
    images = [np.asarray(Image.open(folder / "images" / f"{id}.png")) for id in ids]
    found = {
        (ids[pair.first], ids[pair.second])
        for pair in near_duplicates([thumbnail(image) for image in images])
    }
    right = {pair for pair in found if group[pair[0]] == group[pair[1]]}
    assert len(found - right) == 0
    assert len(right) >= 190  # of 236
