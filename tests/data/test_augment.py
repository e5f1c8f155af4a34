"""Augmentation: replayable, alike for image and label, inside its ranges."""

import numpy as np
import pytest
import torch

from samling.data.augment import Augmentation, augment, retone

STILL = {"rotation_degrees": 0, "flip": False, "crop": 1, "enlarge": 1, "gain": 0}


def disc(centre, radius, side=96):
    y, x = np.ogrid[:side, :side]
    inside = (x + 0.5 - centre[0]) ** 2 + (y + 0.5 - centre[1]) ** 2 <= radius**2
    return torch.from_numpy(inside.astype(np.float32))


def discs(count, centre=(48, 30), radius=10):
    labels = disc(centre, radius).expand(count, -1, -1).clone()
    return labels.unsqueeze(1).clone(), labels


def moved(plan, count=200, **where):
    return augment(*discs(count, **where), plan, np.random.default_rng(0))


def centroids(labels):
    side = torch.arange(labels.shape[-1]) + 0.5
    mass = labels.sum(dim=(1, 2))
    x = (labels.sum(1) * side).sum(1) / mass
    y = (labels.sum(2) * side).sum(1) / mass
    return torch.stack([x, y], 1) - labels.shape[-1] / 2


def test_nothing_asked_nothing_changed():
    images, labels = torch.rand(3, 1, 32, 32), (torch.rand(3, 32, 32) > 0.5).float()
    seen, relabelled = augment(images, labels, Augmentation(**STILL), np.random.default_rng(0))
    torch.testing.assert_close(seen, images)
    assert torch.equal(relabelled, labels)


def test_flips_are_mirrors_in_half_of_the_cases():
    images = torch.rand(1, 1, 32, 32).expand(200, -1, -1, -1)
    labels = (images[:, 0] > 0.5).float()
    plan = Augmentation(**STILL | {"flip": True})
    seen, relabelled = augment(images, labels, plan, np.random.default_rng(0))
    mirrored = (seen - images.flip(-1)).abs().amax(dim=(1, 2, 3)) < 1e-4
    kept = (seen - images).abs().amax(dim=(1, 2, 3)) < 1e-4
    assert (mirrored ^ kept).all()
    assert 70 < mirrored.sum() < 130
    assert torch.equal(relabelled[mirrored], labels.flip(-1)[mirrored])
    assert torch.equal(relabelled[kept], labels[kept])


def test_rotation_keeps_distance_and_area_and_stays_in_range():
    _, labels = moved(Augmentation(**STILL | {"rotation_degrees": 30}))
    positions = centroids(labels)
    angles = torch.rad2deg(torch.atan2(positions[:, 0], -positions[:, 1]))
    torch.testing.assert_close(positions.norm(dim=1), torch.full((200,), 18.0), atol=0.5, rtol=0)
    torch.testing.assert_close(labels.sum((1, 2)), torch.full((200,), 314.0), atol=16, rtol=0)
    assert angles.abs().max() <= 30.5
    assert angles.min() < -25
    assert angles.max() > 25


def test_a_crop_enlarges_and_never_leaves_the_image():
    plan = Augmentation(**STILL | {"crop": 0.5})
    _, labels = moved(plan, centre=(48, 48))
    factors = (labels.sum((1, 2)) / 314).sqrt()
    assert factors.min() > 0.97
    assert 1.85 < factors.max() < 2.05
    white = torch.ones(200, 1, 32, 32)
    seen, _ = augment(white, white[:, 0], plan, np.random.default_rng(1))
    assert seen[:, :, 1:-1, 1:-1].min() > 0.999


def test_enlarging_the_frame_shrinks_the_content_and_fills_with_zeros():
    plan = Augmentation(**STILL | {"crop": 1, "enlarge": 2})
    _, labels = moved(plan, centre=(48, 48))
    factors = (labels.sum((1, 2)) / 314).sqrt()
    assert factors.max() < 1.03
    assert 0.48 < factors.min() < 0.55
    white = torch.ones(50, 1, 32, 32)
    seen, relabelled = augment(white, white[:, 0], plan, np.random.default_rng(1))
    assert seen[:, :, 0, 0].min() == 0
    assert relabelled[:, 0, 0].min() == 0


def test_image_and_label_move_alike():
    images, labels = moved(Augmentation(gain=0), count=50, centre=(40, 44), radius=20)
    differing = ((images[:, 0] > 0.5).float() != labels).float().mean((1, 2))
    assert differing.max() < 0.01
    assert set(labels.unique().tolist()) == {0.0, 1.0}
    turned = Augmentation(**STILL | {"rotation_degrees": 15})
    images, labels = moved(turned, count=50, centre=(78, 48), radius=12)
    shift = (centroids(images[:, 0]) - centroids(labels)).mean(0)  # single ones are up to 0.3 px
    assert shift.abs().max() < 0.05


@pytest.mark.parametrize("gain", [0.15, 0.5])
def test_intensity_is_a_monotonous_map_inside_its_range(gain):
    ramp = torch.linspace(0, 1, 64).expand(100, 1, 64, 64).contiguous()
    plan = Augmentation(**STILL | {"gain": gain})
    seen, _ = augment(ramp, ramp[:, 0], plan, np.random.default_rng(0))
    row = seen[:, 0, 5]
    assert (row.diff(dim=1) >= 0).all()
    assert row.min() >= 0
    assert row.max() <= 1
    assert not row[:, 0].any()
    middle = torch.linspace(0, 1, 64)[32]
    lowest, highest = middle ** (2**gain) * (1 - gain), middle ** (2**-gain) * (1 + gain)
    assert (row[:, 32] >= lowest - 1e-4).all()
    assert (row[:, 32] <= highest + 1e-4).all()
    assert row[:, 32].std() > gain / 10


def test_the_same_generator_gives_the_same_batch():
    images, labels = torch.rand(4, 1, 32, 32), (torch.rand(4, 32, 32) > 0.5).float()
    first, again, other = (
        augment(images, labels, Augmentation(), np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_a_close_up_shows_the_object_large_in_the_middle_and_stretched():
    plan = Augmentation(**STILL | {"zoom_chance": 1})
    images, labels = discs(100, centre=(60, 30), radius=12)
    seen, relabelled = augment(images * 0.4 + 0.2, labels, plan, np.random.default_rng(0))
    sides = 2 * (relabelled.sum((1, 2)) / np.pi).sqrt() / 96
    assert 1 / 3.1 < sides.min() < 0.4
    assert 0.6 < sides.max() < 1 / 1.35
    # Its centre is up to 0.15 half sides of the object away from the middle, in close-up pixels
    assert (centroids(relabelled).abs().amax(1) <= 0.15 / 2 * sides * 96 + 1).all()
    assert torch.equal(seen.amin((1, 2, 3)), torch.zeros(100))
    assert torch.equal(seen.amax((1, 2, 3)), torch.ones(100))
    assert ((seen[:, 0] > 0.5).float() != relabelled).float().mean() < 0.02


def test_close_ups_are_taken_of_objects_alone_and_as_often_as_asked():
    images, labels = discs(300, centre=(60, 30), radius=12)
    images, labels[:100] = images * 0.5, 0
    plan = Augmentation(**STILL | {"zoom_chance": 0.5})
    seen, relabelled = augment(images, labels, plan, np.random.default_rng(0))
    close = seen.amax((1, 2, 3)) > 0.9
    assert not close[:100].any()
    assert 75 < close[100:].sum() < 125
    torch.testing.assert_close(seen[~close], images[~close])
    assert torch.equal(relabelled[~close], labels[~close])


def test_shear_and_shift_move_image_and_label_alike():
    plan = Augmentation(**STILL | {"shear_degrees": 20, "shift": 0.1})
    images, labels = moved(plan)
    torch.testing.assert_close((images[:, 0] > 0.5).float(), labels, atol=1.0, rtol=0)
    wrong = ((images[:, 0] > 0.5).float() - labels).abs().sum((1, 2))
    assert wrong.max() < 30  # at the rim: bilinear beside nearest
    torch.testing.assert_close(labels.sum((1, 2)), torch.full((200,), 314.0), atol=20, rtol=0)
    offsets = centroids(labels)
    assert offsets[:, 1].std() > 2  # a shear along x alone would leave rows where they were
    assert (offsets - torch.tensor([0.0, -18.0])).abs().max() < 0.2 * 48 + 18 * np.tan(
        np.deg2rad(20)
    ) + 1


def test_randaugment_gives_every_image_so_many_kinds_of_change():
    kinds = {"flip": True, "gain": 0.3, "shift": 0.2, "operations": 1}
    images, labels = discs(300, centre=(40, 30))
    plan = Augmentation(**STILL | kinds)
    seen, relabelled = augment(images, labels, plan, np.random.default_rng(0))
    inside = (relabelled > 0.5).unsqueeze(1)
    brightness = torch.where(inside, seen, 0).sum((1, 2, 3)) / inside.sum((1, 2, 3))
    darker = brightness < 0.9
    elsewhere = (relabelled != labels).flatten(1).any(1)
    assert not (darker & elsewhere).any()  # never two of them
    assert 10 < darker.sum() < 60  # one of six kinds, half of these brighten what is white already
    assert 40 < elsewhere.sum() < 140


def test_a_tone_curve_keeps_order_black_and_white():
    ramp = torch.linspace(0, 1, 64 * 64).view(1, 1, 64, 64).expand(50, -1, -1, -1)
    toned = retone(ramp, 1.0, np.random.default_rng(0)).flatten(1)
    torch.testing.assert_close(toned[:, 0], torch.zeros(50))
    torch.testing.assert_close(toned[:, -1], torch.ones(50))
    assert (toned.diff(dim=1) >= -1e-6).all()
    assert (toned - ramp.flatten(1)).abs().amax(1).min() > 0.02
    # The mean curve of a symmetric Dirichlet distribution is the identity
    many = retone(ramp[:1].expand(4000, -1, -1, -1)[..., ::16, ::16], 1.0, np.random.default_rng(1))
    torch.testing.assert_close(many.mean(0), ramp[0, :, ::16, ::16], atol=0.02, rtol=0)


def test_tone_changes_as_many_images_as_asked():
    images = torch.rand(400, 1, 8, 8)
    toned = retone(images, 0.25, np.random.default_rng(0))
    share = (toned != images).flatten(1).any(1).float().mean()
    assert 0.18 < share < 0.32
    assert retone(images, 0.0, np.random.default_rng(0)) is images


def test_speckle_is_multiplied_and_bounded():
    plan = Augmentation(**STILL, speckle=0.2)
    images, labels = torch.full((60, 1, 32, 32), 0.5), torch.zeros(60, 32, 32)
    images[:, :, :4] = 0
    seen, _ = augment(images, labels, plan, np.random.default_rng(0))
    assert (seen[:, :, :4] == 0).all()
    spread = seen[:, :, 4:].flatten(1).std(1) / 0.5
    assert spread.max() < 0.22 and spread.min() < 0.05
