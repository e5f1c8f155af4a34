"""The phantom generator: repeatable, exact masks, physics in the right direction."""

import csv
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy import ndimage

from samling.data.phantom import CATEGORIES, Lesion, PhantomCine, _scan, phantom, write_phantom_set

MANY = [phantom(seed) for seed in range(0, 40)]


def test_same_seed_same_picture() -> None:
    one, two = phantom(7), phantom(7)
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.labels, two.labels)


def test_other_frame_of_a_patient_is_alike_but_not_equal() -> None:
    one, two, stranger = phantom(6), phantom(7), phantom(8)
    assert one.group == two.group != stranger.group
    assert one.category == two.category
    assert one.id != two.id
    assert not np.array_equal(one.image, two.image)


@pytest.mark.parametrize("case", MANY, ids=lambda case: case.id)
def test_case_is_well_formed(case) -> None:
    assert case.image.shape == case.labels.shape == (256, 320)
    assert case.image.dtype == np.float32
    assert case.labels.dtype == np.uint8
    np.testing.assert_array_equal(case.image, np.round(case.image))
    assert case.image.min() >= 0 and 200 < case.image.max() <= 255
    count, _ = cv2.connectedComponents(case.labels)
    assert count - 1 in ((0,) if case.category == "normal" else (1, 2, 3))
    border = np.concatenate([case.labels[0], case.labels[-1], *case.labels[:, [0, -1]].T])
    assert not border.any()


def test_all_categories_and_several_lesions_occur() -> None:
    assert {case.category for case in MANY} == set(CATEGORIES)
    assert {cv2.connectedComponents(case.labels)[0] - 1 for case in MANY} == {0, 1, 2, 3}


def test_mask_of_an_ellipse_has_its_exact_area() -> None:
    lesion = Lesion("cyst", 0.5, 0.5, 0.3, 0.2, 0.4, -50.0, np.zeros((1, 2)))
    y, x = (np.indices((1000, 1000)) + 0.5) / 1000
    area = np.count_nonzero(lesion.inside(x, y) <= 1) / 1e6
    assert area == pytest.approx(np.pi * 0.3 * 0.2, rel=1e-3)


def test_lesions_are_darker_than_their_surroundings() -> None:
    for case in MANY:
        inside = case.labels > 0
        if inside.any():
            ring = ndimage.binary_dilation(inside, iterations=12)
            ring &= ~ndimage.binary_dilation(inside, iterations=3)
            assert case.image[inside].mean() < case.image[ring].mean() - 15, case.id


def test_cysts_are_darker_than_solid_lesions() -> None:
    grey = {
        kind: np.mean([c.image[c.labels > 0].mean() for c in MANY if c.category == kind])
        for kind in ("cyst", "solid")
    }
    assert grey["cyst"] < 0.4 * grey["solid"]


def test_shadow_behind_solid_lesions_and_enhancement_behind_cysts() -> None:
    differences = {"cyst": [], "solid": []}
    for case in MANY:
        count, numbers = cv2.connectedComponents(case.labels)
        if count != 2:
            continue
        rows, columns = np.nonzero(numbers)
        below = case.image[rows.max() + 4 : rows.max() + 24]
        width = columns.max() - columns.min()
        centre = int(columns.mean())
        behind = below[:, centre - width // 5 : centre + width // 5 + 1].mean()
        beside = np.delete(below, slice(columns.min() - 8, columns.max() + 8), axis=1).mean()
        differences[case.category].append(behind - beside)
    assert np.mean(differences["cyst"]) > 5
    assert np.mean(differences["solid"]) < -10


def test_speckle_is_correlated_over_the_point_spread_function_only() -> None:
    machine, rng = np.random.default_rng(0), np.random.default_rng(1)
    flat = _scan(np.zeros((256, 320)), machine, rng)[100:140]  # uniform tissue, near the focus
    flat = flat - flat.mean(axis=1, keepdims=True)
    across = [np.corrcoef(flat[:, :-k].ravel(), flat[:, k:].ravel())[0, 1] for k in (1, 12)]
    down = [np.corrcoef(flat[:-k].ravel(), flat[k:].ravel())[0, 1] for k in (1, 12)]
    assert across[0] > down[0] > 0.4  # finer along the beam than across it
    assert abs(across[1]) < 0.1
    assert abs(down[1]) < 0.1


def test_set_is_a_folder_data_set(tmp_path: Path) -> None:
    write_phantom_set(tmp_path / "set", 6, seed=3, size=(64, 80))
    rows = list(csv.DictReader((tmp_path / "set/meta.csv").open(encoding="utf-8")))
    assert [row["class"] for row in rows] == ["cyst"] * 2 + ["solid"] * 4
    groups = [row["group_id"] for row in rows]
    assert groups[0] == groups[1] and len(set(groups)) == 3
    for row in rows:
        image = cv2.imread(str(tmp_path / f"set/images/{row['id']}.png"), cv2.IMREAD_UNCHANGED)
        mask = cv2.imread(str(tmp_path / f"set/masks/{row['id']}.png"), cv2.IMREAD_UNCHANGED)
        assert image.shape == mask.shape == (64, 80)
        assert set(np.unique(mask)) == {0, 255}
    assert float(rows[0]["pixel_mm"]) == pytest.approx(40 / 64)


def test_other_seeds_make_other_patients(tmp_path: Path) -> None:
    ids = []
    for seed in (0, 1):
        write_phantom_set(tmp_path / str(seed), 2, seed=seed, size=(48, 48))
        ids += [path.name for path in (tmp_path / str(seed) / "images").iterdir()]
    assert len(set(ids)) == 4


@pytest.mark.parametrize(("seed", "size"), [(-1, (64, 64)), (0, (8, 64))])
def test_unusable_arguments(seed: int, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="phantom needs"):
        phantom(seed, size)


def test_fast_enough_for_a_demo() -> None:
    started = time.process_time()
    for seed in range(5):
        phantom(seed)
    assert (time.process_time() - started) / 5 < 0.3  # 0.04 s measured; a demo takes 240


def test_a_cine_is_one_patient_that_moves_and_comes_back():
    frames = list(PhantomCine(1, 41, (48, 64)))
    image, labels = PhantomCine(1, 41, (48, 64))[7]  # out of order, and again
    assert np.array_equal(image, frames[7][0])
    assert np.array_equal(labels, frames[7][1])
    assert all(image.shape == labels.shape == (48, 64) for image, labels in frames)
    centres = np.array([np.argwhere(labels).mean(0)[1] for _, labels in frames])
    assert np.ptp(centres) > 0.08 * 64  # the probe slides by 12 % of the width
    assert np.abs(np.diff(centres)).max() < 2.5  # in small steps
    assert abs(centres[40] - centres[0]) < 1.5
    areas = np.array([labels.sum() for _, labels in frames])
    assert areas.max() > 1.15 * areas.min()
    assert not np.array_equal(frames[0][0], frames[40][0])  # speckle is new


def test_a_cine_without_a_lesion_has_none():
    assert not any(labels.any() for _, labels in PhantomCine(4, 2, (48, 64)))
    with pytest.raises(ValueError, match="needs a patient"):
        PhantomCine(-1, 1)
