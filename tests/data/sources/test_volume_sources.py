"""Layouts of volumes, each written the way its publisher does; voxels and classes are known."""

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from samling.data.sources.layouts import LAYOUTS, read_layout
from samling.data.volume_checks import check_volumes
from samling.errors import InputError
from samling.recipes.prepare import prepare


@pytest.fixture
def scan(ct_phantom):
    """Hounsfield units and class numbers of the phantom: liver 1, two tumours 2."""
    liver = np.isin(ct_phantom, (120, 40, 41))
    return ct_phantom, liver.astype(np.uint8) + np.isin(ct_phantom, (40, 41))


@pytest.fixture
def make_dircadb(scan, write_series):
    hu, labels = scan
    masks = {
        "liver": labels > 0,
        "livertumor1": hu == 40,
        "livertumor02": hu == 41,
        "bone": hu > 200,
    }

    def make(root: Path) -> None:
        write_series(root / "PATIENT_DICOM", hu)
        for name, mask in masks.items():
            folder = root / "MASKS_DICOM" / name
            write_series(folder, mask.astype(np.int16) * 255, rescale=lambda k: (1, 0))

    return make


def save(path: Path, array: np.ndarray) -> None:
    """(D, H, W) as NIfTI; the file runs to the right and to the front."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(
        nibabel.Nifti1Image(array[:, ::-1, ::-1].transpose(2, 1, 0), np.diag([0.7, 0.8, 2.5, 1])),
        path,
    )


def only(root: Path, layout: str):
    name, listing = read_layout(root)
    assert name == layout and not listing.entries
    (entry,) = listing.volumes
    return listing, entry


@pytest.mark.parametrize("packed", ["folders", "inner zips", "one zip", "zip of zips"])
def test_dircadb_as_folders_and_as_the_zips_it_comes_in(tmp_path, make_dircadb, scan, packed):
    root = tmp_path / "3Dircadb1.9"
    make_dircadb(root)
    if packed in ("inner zips", "zip of zips"):
        for name in ("PATIENT_DICOM", "MASKS_DICOM"):
            shutil.make_archive(str(root / name), "zip", root, name)
            shutil.rmtree(root / name)
    if packed in ("one zip", "zip of zips"):
        shutil.make_archive(str(tmp_path / "3Dircadb1.9"), "zip", tmp_path, "3Dircadb1.9")
        shutil.rmtree(root)
        root = tmp_path / "3Dircadb1.9.zip"
    listing, entry = only(root, "3dircadb")
    volume, labels = entry.load()
    np.testing.assert_array_equal(volume.voxels, scan[0])
    np.testing.assert_array_equal(labels, scan[1])
    assert entry.group == "3Dircadb1.9" and listing.classes == ("liver", "liver tumour")


def test_a_patient_without_a_liver_is_named(tmp_path, make_dircadb):
    make_dircadb(tmp_path / "p1")
    make_dircadb(tmp_path / "p2")
    shutil.rmtree(tmp_path / "p2" / "MASKS_DICOM" / "liver")
    _, listing = read_layout(tmp_path)
    assert [entry.id for entry in listing.volumes] == ["p1"]
    assert listing.problems[0].file == "p2" and "MASKS_DICOM/liver" in listing.problems[0].reason


def test_chaos_masks_belong_to_files_by_name(tmp_path, scan, write_series):
    folder = tmp_path / "Train_Sets" / "CT" / "14"
    paths = write_series(folder / "DICOM_anon", scan[0])
    (folder / "Ground").mkdir()
    # the names of the files run against their positions
    for k, plane in enumerate(reversed(scan[1])):
        Image.fromarray((plane > 0).astype(np.uint8) * 255).save(
            folder / "Ground" / f"liver_GT_{k:03d}.png"
        )
    _, entry = only(tmp_path, "chaos")
    volume, labels = entry.load()
    assert volume.names == tuple(path.name for path in paths)
    np.testing.assert_array_equal(labels, scan[1] > 0)
    (folder / "Ground" / "liver_GT_003.png").unlink()
    with pytest.raises(InputError, match="23 masks for 24 slices"):
        entry.load()


def test_lits_pairs_by_number(tmp_path, scan):
    save(tmp_path / "batch 1" / "volume-7.nii", scan[0])
    save(tmp_path / "batch 1" / "segmentation-7.nii.gz", scan[1])
    save(tmp_path / "batch 1" / "volume-8.nii", scan[0])
    listing, entry = only(tmp_path, "lits")
    volume, labels = entry.load()
    np.testing.assert_array_equal(volume.voxels, scan[0])
    np.testing.assert_array_equal(labels, scan[1])
    assert entry.id == "volume-7" and "volume-8.nii" in listing.problems[0].file


def make_msd(root: Path, scans: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    about = {"labels": {"0": "background", "1": "liver", "2": "cancer"}, "modality": {"0": "CT"}}
    root.mkdir()
    (root / "dataset.json").write_text(json.dumps(about))
    for name, (hu, labels) in scans.items():
        save(root / "imagesTr" / f"{name}.nii.gz", hu)
        save(root / "labelsTr" / f"{name}.nii.gz", labels)
    (root / "imagesTr" / "._liver_1.nii.gz").write_bytes(b"macOS")


def test_msd_becomes_slices_in_hounsfield_units(tmp_path, scan):
    make_msd(tmp_path / "Task03", {"liver_1": scan})
    listing, entry = only(tmp_path / "Task03", "nnunet")
    assert listing.classes == ("liver", "cancer") and entry.modality == "ct"
    found = list(check_volumes(listing.volumes, 2, tmp_path))
    shown = np.flatnonzero(scan[1].any(axis=(1, 2)))
    assert [one.case.id for one in found] == [f"liver_1_s{k:04d}" for k in shown]
    for one, k in zip(found, shown, strict=True):
        np.testing.assert_array_equal(one.case.image, np.maximum(scan[0][k], -1024))
        np.testing.assert_array_equal(one.case.labels, scan[1][k])
        assert one.case.hounsfield and one.case.spacing_mm == pytest.approx((0.8, 0.7))


def test_a_class_that_nobody_named_is_an_error(tmp_path, scan):
    make_msd(tmp_path / "Task03", {"liver_1": (scan[0], scan[1] * 2)})
    _, listing = read_layout(tmp_path / "Task03")
    (found,) = check_volumes(listing.volumes, 2, tmp_path)
    assert found.case is None and "class 4" in found.problems[0].reason


def other(scan, k):
    """Another person: moved, and with a pattern of its own."""
    hu, labels = (np.roll(part, 3 * k, axis=2) for part in scan)
    coarse = np.random.default_rng(k).integers(-80, 80, (24, 8, 8)).repeat(8, 1).repeat(8, 2)
    return (hu + coarse).astype(np.int16), labels


def test_prepare_splits_volumes_by_patient(tmp_path, scan):
    from samling.data.store import Store

    make_msd(tmp_path / "Task03", {f"liver_{k}": other(scan, k) for k in range(4)})
    report = prepare(tmp_path / "Task03", tmp_path / "a.h5")
    store = Store.open(tmp_path / "a.h5")
    assert report.groups == 4 and store.classes == ("liver", "cancer")
    sides = {
        part: {id.partition("_s")[0] for id in store.splits.ids(part)}
        for part in ("train", "val", "test")
    }
    assert sum(len(side) for side in sides.values()) == 4 and all(sides.values())
    case = store.case("liver_2_s0012")
    np.testing.assert_array_equal(case.image, np.maximum(other(scan, 2)[0][12], -1024))
    np.testing.assert_array_equal(case.labels, other(scan, 2)[1][12])
    store.verify()


def test_one_patient_on_both_sides_is_refused_with_the_names_of_the_files(tmp_path, scan):
    root = tmp_path / "Task03"
    make_msd(root, {f"liver_{k}": other(scan, k) for k in range(3)} | {"copy": other(scan, 1)})
    meta = "id,group_id,split\nliver_0,a,train\nliver_1,b,train\nliver_2,a,test\ncopy,c,val\n"
    (root / "meta.csv").write_text(meta)
    with pytest.raises(InputError, match=r"liver_0\.nii\.gz in train and liver_2\.nii\.gz in test"):
        prepare(root, tmp_path / "a.h5")
    # a copy under another name and another group is found by its content
    (root / "meta.csv").write_text(meta.replace("liver_2,a", "liver_2,d"))
    with pytest.raises(InputError, match=r"copy\.nii\.gz in val and liver_1\.nii\.gz in train"):
        prepare(root, tmp_path / "a.h5")
    assert not (tmp_path / "a.h5").exists()


def test_a_misspelt_column_of_meta_is_named(tmp_path, scan):
    root = tmp_path / "Task03"
    make_msd(root, {"liver_0": scan})
    (root / "meta.csv").write_text("id,group\nliver_0,a\n")
    _, listing = read_layout(root, "nnunet")
    (note,) = [problem for problem in listing.problems if "columns" in problem.reason]
    assert note.reason == "columns not used: group (known: id, group_id, case_id, class, split)"


def test_every_layout_of_volumes_is_in_the_table():
    assert {"3dircadb", "chaos", "lits", "nnunet"} <= LAYOUTS.keys()
