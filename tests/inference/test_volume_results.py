"""The picture of several slices: a legend where colours are classes."""

from pathlib import Path

import numpy as np

from samling.data.intensity import Intensity
from samling.data.volume import Grid, Volume
from samling.inference.overlay import COLOURS
from samling.inference.volume_results import slices_picture


def test_a_legend_is_below_the_slices_of_several_classes_and_covers_none():
    voxels, labels = np.zeros((3, 40, 40), np.int16), np.zeros((3, 40, 40), np.uint8)
    labels[1, 5:35, 5:35], labels[1, 15:20, 15:20] = 1, 2
    volume = Volume(voxels, Grid((40, 40, 3), np.eye(4)), Path("a"))
    plain = slices_picture(volume, labels, Intensity((0, 100)), ("liver",))
    both = slices_picture(volume, labels, Intensity((0, 100)), ("liver", "tumour"))
    assert np.array_equal(both[: len(plain)], plain)
    strip = both[len(plain) :]
    assert 20 < len(strip) < 60
    places = [np.argwhere((strip == colour).all(axis=2)).mean(axis=0)[0] for colour in COLOURS[:2]]
    assert places[0] < places[1]  # the first class is named first
