"""Pictures of nothing: the share asked for, in the outline of the image they replace, replayable."""

import numpy as np
import torch

from samling.data.nothing import with_nothing

SIDE = 48


def pictures(count, channels=1):
    """Random images with padding below, all of them labelled."""
    images = torch.rand((count, channels, SIDE, SIDE), generator=torch.Generator().manual_seed(1))
    images[:, :, 30:] = 0
    return images, torch.ones(count, SIDE, SIDE)


NONE = torch.zeros(400, dtype=torch.bool)


def test_without_a_chance_nothing_changes_and_no_randomness_is_used():
    rng = np.random.default_rng(0)
    images, labels = pictures(3)
    seen, relabelled, empty = with_nothing(images, labels, 0.0, rng, NONE[:3])
    assert torch.equal(seen, images) and torch.equal(relabelled, labels) and not empty.any()
    assert rng.random() == np.random.default_rng(0).random()


def test_the_share_asked_for_is_replaced_and_the_others_stay_as_they_are():
    images, labels = pictures(400, channels=3)
    kept = images.clone()
    seen, relabelled, empty = with_nothing(images, labels, 0.2, np.random.default_rng(0), NONE)
    assert 0.15 < empty.double().mean() < 0.25
    assert torch.equal(images, kept) and labels.all()
    assert torch.equal(seen[~empty], images[~empty]) and relabelled[~empty].all()
    assert not relabelled[empty].any()
    assert (seen[empty] != images[empty]).flatten(1).any(1).all()


def test_they_stay_in_range_and_in_the_picture_and_differ():
    seen, _, _ = with_nothing(*pictures(100), 1.0, np.random.default_rng(0), NONE[:100])
    assert seen.min() >= 0 and seen.max() <= 1 and torch.isfinite(seen).all()
    assert not seen[:, :, 30:].any()
    spread = seen[:, 0, :30].flatten(1).std(1)
    assert (spread < 1e-6).double().mean() > 0.03  # black
    assert (spread > 0.05).double().mean() > 0.3
    again, _, _ = with_nothing(*pictures(100), 1.0, np.random.default_rng(0), NONE[:100])
    assert torch.equal(seen, again)


def test_a_black_hole_is_filled_and_who_is_spared_stays():
    images, labels = pictures(50)
    images[:, :, 10:20, 10:20] = 0  # a cyst: not part of the outline
    spared = torch.arange(50) < 10
    seen, relabelled, empty = with_nothing(images, labels, 1.0, np.random.default_rng(0), spared)
    assert torch.equal(empty, ~spared) and relabelled[:10].all()
    assert torch.equal(seen[:10], images[:10])
    assert seen[10:, :, 10:20, 10:20].mean() > 0.05
    assert not seen[:, :, 30:].any()
