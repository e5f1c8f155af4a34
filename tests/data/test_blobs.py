"""Made-up objects: alone in their label, told apart, replayable, of every size, and visible."""

import numpy as np
import torch
from scipy.ndimage import label as components

from samling.data.blobs import LARGEST, SMALLEST, with_blobs

SIDE = 96


def pictures(count=64, channels=1):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand((count, channels, SIDE, SIDE), generator=generator)
    return images, torch.full((count, SIDE, SIDE), 2.0)


def made(chance=1.0, seed=0, **where):
    return with_blobs(*pictures(**where), chance, np.random.default_rng(seed))


def test_without_a_chance_nothing_changes_and_no_randomness_is_used():
    rng = np.random.default_rng(0)
    images, labels = pictures()
    seen, relabelled, made_up = with_blobs(images, labels, 0.0, rng)
    assert torch.equal(seen, images) and torch.equal(relabelled, labels) and not made_up.any()
    assert rng.random() == np.random.default_rng(0).random()


def test_the_share_asked_for_gets_one_and_the_others_stay_as_they_are():
    images, labels = pictures(count=400)
    kept = images.clone()
    seen, relabelled, made_up = with_blobs(images, labels, 0.3, np.random.default_rng(0))
    assert 0.2 < made_up.double().mean() < 0.4
    assert torch.equal(images, kept)
    assert torch.equal(seen[~made_up], images[~made_up])
    assert (relabelled[~made_up] == 2).all()
    assert set(relabelled[made_up].unique().tolist()) == {0, 1}


def test_each_is_one_object_of_a_size_that_was_asked_for():
    _, labels, _ = made(count=200)
    counts = [components(plane.numpy())[1] for plane in labels]
    assert np.mean(np.array(counts) == 1) > 0.98
    areas = labels.mean(dim=(1, 2)).numpy()
    assert areas.min() > 0.2 * np.pi * SMALLEST**2 * 0.45
    assert areas.max() < 2 * np.pi * LARGEST**2
    assert areas.max() > 50 * areas.min()


def test_pixels_stay_in_range_and_change_inside_more_than_outside():
    images, _ = pictures(count=100)
    seen, labels, _ = made(count=100)
    assert seen.min() >= 0 and seen.max() <= 1
    change = (seen - images).abs().squeeze(1)
    inside = (change * labels).sum() / labels.sum()
    outside = (change * (1 - labels)).sum() / (1 - labels).sum()
    assert inside > 10 * outside > 0  # walls and soft edges reach beyond


def test_neighbouring_slices_get_the_same_outline():
    images, labels = pictures(count=40)
    seen, _, _ = with_blobs(images.expand(-1, 3, -1, -1), labels, 1.0, np.random.default_rng(2))
    changed = (seen - images).abs() > 0.05
    agree = (changed[:, :1] == changed).float().mean()
    assert agree > 0.97  # but for noise of their own


def test_objects_lie_where_something_is_shown():
    images, labels = pictures(count=200)
    images[..., SIDE // 2 :, :] = 0  # as a wide picture is padded
    _, labels, _ = with_blobs(images, labels, 1.0, np.random.default_rng(0))
    rows = torch.arange(SIDE) + 0.5
    centres = (labels.sum(2) * rows).sum(1) / labels.sum((1, 2))
    assert (centres < SIDE // 2).float().mean() > 0.9


def test_same_seed_same_objects():
    for one, other in zip(made(seed=4), made(seed=4), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(made(seed=4)[1], made(seed=5)[1])
