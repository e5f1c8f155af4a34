"""Automatic mode on volumes: classes, neighbours, averages of several models and mirrored slices."""

from types import SimpleNamespace

import numpy as np
import pytest

from samling.errors import InputError
from samling.inference.backend import Encoding
from samling.inference.card import Card
from samling.inference.ensemble import Ensemble, class_probabilities, segment_slices, slab_at
from samling.inference.segmenter import Segmenter
from samling.prompts.prompt import AUTOMATIC_TOKENS, Token

SIDE = 64
CARD = Card(
    name="fake", base="none", base_sha256="0" * 64, input_size=SIDE, embedding_size=SIDE // 4,
    prompts=("automatic", "box"), classes=("liver", "liver tumour"), automatic="nested",
    window_hu=(50.0, 100.0), minimum_area=0.0,
)  # fmt: skip


class Levels:
    """Class k is what is brighter than `cuts[k]`; the left half only, if `left`."""

    def __init__(self, cuts=(0.3, 0.7), presence=(3.0, 3.0), left=False):
        self.cuts, self.presence, self.left = cuts, presence, left
        self.seen = []

    def encode(self, plane):
        self.seen.append(plane.shape)
        plane = plane[1] if plane.ndim == 3 else plane
        return Encoding(plane[None, None], self.presence)

    def decode(self, encoding, coords, labels, masks=None):
        image = encoding.embedding[0, 0]
        found = np.arange(SIDE) < SIDE // 2 if self.left else np.ones(SIDE, bool)
        cuts = [self.cuts[(k[0] - Token.AUTOMATIC) // AUTOMATIC_TOKENS] for k in labels]
        low = [np.where((image > cut) & found, 6.0, -6.0) for cut in cuts]
        return np.stack(low).astype(np.float32), np.full(len(low), 0.9, np.float32)


def segmenter(backend=None, **changes):
    return Segmenter(backend or Levels(), CARD.model_copy(update=changes))


@pytest.fixture
def volume():
    """Air, liver of 50 HU with a tumour of 90 HU inside, and 90 HU far from it on the last slice."""
    voxels = np.full((6, SIDE, SIDE), -200, np.int16)
    voxels[1:5, 10:50, 8:56] = 50
    voxels[2:4, 20:30, 20:30] = 90
    return voxels


def answers(ensemble, voxels):
    found = list(segment_slices(ensemble, voxels, range(len(voxels))))
    return np.stack([one.labels for one in found]), np.stack([one.uncertainty for one in found])


def test_both_classes_at_once_the_tumour_inside_the_liver(volume):
    labels, _ = answers(Ensemble((segmenter(),)), volume)
    np.testing.assert_array_equal(labels, np.select([volume == 90, volume == 50], [2, 1], 0))


def test_an_inner_class_never_leaves_the_outer_one(volume):
    backend = Levels(cuts=(0.7, 0.3))  # the tumour's mask is larger than the liver's
    labels, _ = answers(Ensemble((segmenter(backend),)), volume)
    np.testing.assert_array_equal(labels == 2, volume == 90)
    assert not (labels == 1).any()
    apart, _ = answers(Ensemble((segmenter(backend, automatic="separate"),)), volume)
    np.testing.assert_array_equal(apart == 2, volume >= 50)


@pytest.mark.parametrize(
    ("presence", "classes"), [((-9.0, 9.0), set()), ((9.0, -9.0), {1}), ((-9.0, -9.0), set())]
)
def test_what_is_not_there_is_not_drawn(volume, presence, classes):
    labels, _ = answers(Ensemble((segmenter(Levels(presence=presence)),)), volume)
    assert set(np.unique(labels)) - {0} == classes


def test_models_are_averaged_and_say_where_they_differ(volume):
    members = (segmenter(Levels(cuts=(0.3, 2.0))), segmenter(Levels(cuts=(0.7, 2.0))))
    ensemble = Ensemble(members)
    assert ensemble.votes == 2
    mean, doubt = ensemble.probabilities(volume, 2)
    p = 1 / (1 + np.exp(-6.0))
    np.testing.assert_allclose(mean[0][volume[2] == 90], p, atol=1e-6)
    np.testing.assert_allclose(mean[0][volume[2] == 50], 0.5, atol=1e-6)  # one yes, one no
    np.testing.assert_allclose(doubt[volume[2] == 50], 1.0, atol=1e-6)
    sure = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    np.testing.assert_allclose(doubt[volume[2] == 90], sure, atol=1e-5)
    _, percent = answers(ensemble, volume)
    assert percent.dtype == np.uint8 and percent.max() == 100


def test_a_mirrored_slice_is_mirrored_back(volume):
    one_sided = segmenter(Levels(left=True))
    seen = class_probabilities(one_sided, volume[2])
    assert seen[0][30, 10] > 0.9 > 0.1 > seen[0][30, 50]
    mean, _ = Ensemble((one_sided,), flips=True).probabilities(volume, 2)
    np.testing.assert_allclose(mean[0][30, [10, 50]], 0.5, atol=1e-6)
    assert Ensemble((one_sided,), flips=True).votes == 2


def test_neighbours_come_along_and_ends_stand_for_themselves(volume):
    backend = Levels()
    several = segmenter(backend, slices=3)
    answers(Ensemble((several,)), volume)
    assert backend.seen == [(3, SIDE, SIDE)] * 6
    numbered = SimpleNamespace(card=several.card)
    voxels = np.arange(4).reshape(4, 1, 1)
    slabs = [slab_at(numbered, voxels, k).ravel().tolist() for k in range(4)]
    assert slabs == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]]
    assert slab_at(segmenter(), voxels, 2).shape == (1, 1)


def test_specks_below_the_card_s_smallest_area_are_dropped(volume):
    volume[5, 2:4, 2:4] = 50
    labels, _ = answers(Ensemble((segmenter(minimum_area=0.01),)), volume)
    assert not labels[5].any() and labels[1].any()


def test_models_of_other_classes_and_models_that_need_prompts_are_refused(volume):
    other = segmenter(classes=("liver", "cyst"))
    with pytest.raises(InputError, match="answers for liver, cyst, fake for liver, liver tumour"):
        Ensemble((segmenter(), other))
    boxes = segmenter(prompts=("box",))
    with pytest.raises(InputError, match="has no automatic mode"):
        list(segment_slices(Ensemble((boxes,)), volume, [0]))
