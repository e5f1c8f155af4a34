"""prepare, end to end: a folder in, a checked and split store out, and every refusal on its way."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from samling.data.splits import PARTS, Splits, committed_splits
from samling.data.store import Store
from samling.errors import InputError
from samling.recipes.prepare import check, prepare


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def picture(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    coarse = generator.normal(size=(12, 16)).astype(np.float32)
    smooth = np.asarray(Image.fromarray(coarse).resize((80, 60), Image.Resampling.BICUBIC))
    return np.clip(128 + 50 * smooth, 0, 255).astype(np.uint8)


def write_pair(root: Path, stem: str, image: np.ndarray, mask: np.ndarray | None = None) -> None:
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    if mask is None:
        mask = np.zeros(image.shape, np.uint8)
        mask[10:30, 10:40] = 255
    Image.fromarray(image).save(root / "images" / f"{stem}.png")
    Image.fromarray(mask).save(root / "masks" / f"{stem}.png")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Thirty pairs of unrelated pictures, two categories."""
    root = tmp_path / "set"
    for number in range(30):
        write_pair(root, f"p{number:02d}", picture(number))
    return root


def write_meta(root: Path, header: str, rows: dict[str, str]) -> None:
    lines = [f"id,{header}", *(f"{id},{row}" for id, row in rows.items())]
    (root / "meta.csv").write_text("\n".join(lines))


def side_of(store: Store) -> dict[str, str]:
    return store.splits.part_of()


def test_the_store_has_what_the_files_have(data: Path, tmp_path: Path) -> None:
    report = prepare(data, tmp_path / "s.h5")
    store = Store.open(tmp_path / "s.h5")
    store.verify()
    assert report.cases == len(store) == 30 and store.name == "set"
    assert report.content_hash == store.content_hash and report.split_hash == store.splits.hash
    case = store.case("p07")
    np.testing.assert_array_equal(case.image, np.asarray(Image.open(data / "images" / "p07.png")))
    assert set(np.unique(case.labels)) == {0, 1}
    assert sorted(side_of(store)) == list(store.ids) and all(store.splits.ids(p) for p in PARTS)
    written = json.loads((tmp_path / "s.h5.report.json").read_text())
    assert written == json.loads(json.dumps(report.to_dict()))
    assert "30 cases" in report.text() and "255 taken as class 1" in report.text()


def test_twice_prepared_is_the_same(data: Path, tmp_path: Path) -> None:
    first, second = (prepare(data, tmp_path / name) for name in ("a.h5", "b.h5"))
    assert first.content_hash == second.content_hash
    assert prepare(data, tmp_path / "c.h5", seed=5).split_hash != first.split_hash


def test_planted_duplicates_stay_on_one_side(data: Path, tmp_path: Path) -> None:
    for number in range(12):
        copy = Image.fromarray(picture(number)[:, ::-1]).resize((72, 54))
        write_pair(data, f"copy{number:02d}", np.asarray(copy))
    report = prepare(data, tmp_path / "s.h5")
    store = Store.open(tmp_path / "s.h5")
    side = side_of(store)
    pairs = {(second, first) for first, second, _ in report.duplicates}
    assert {tuple(sorted(pair)) for pair in pairs} == {
        (f"copy{n:02d}", f"p{n:02d}") for n in range(12)
    }
    assert all(side[f"copy{n:02d}"] == side[f"p{n:02d}"] for n in range(12))
    assert report.groups == 30 and store.meta("copy03").group == store.meta("p03").group


def test_turned_and_cropped_copies_stay_on_one_side(data: Path, tmp_path: Path) -> None:
    """As where one scan was saved twice: the fast look for near-duplicates misses these."""
    for number in range(6):
        turned = np.rot90(speckled(number)[2:, 3:])
        write_pair(data, f"a{number:02d}", speckled(number))
        write_pair(data, f"z{number:02d}", np.ascontiguousarray(turned))
    report = prepare(data, tmp_path / "s.h5")
    side = side_of(Store.open(tmp_path / "s.h5"))
    assert report.groups == 36 and all(side[f"a{n:02d}"] == side[f"z{n:02d}"] for n in range(6))


def test_it_is_said_when_no_patient_is_known(data: Path, tmp_path: Path) -> None:
    unknown = "no patient is known"
    assert any(unknown in note for note in prepare(data, tmp_path / "s.h5").notes)
    write_meta(data, "group_id", {f"p{n:02d}": f"patient{n // 3}" for n in range(30)})
    assert not any(unknown in note for note in prepare(data, tmp_path / "s.h5").notes)


def speckled(seed: int) -> np.ndarray:
    generator = np.random.default_rng(100 + seed)
    noise = gaussian_filter(generator.normal(size=(80, 80)), 1.5)
    return np.clip(128 + 400 * noise, 0, 255).astype(np.uint8)


def test_known_groups_stay_on_one_side(data: Path, tmp_path: Path) -> None:
    write_meta(data, "group_id", {f"p{n:02d}": f"patient{n // 3}" for n in range(30)})
    prepare(data, tmp_path / "s.h5")
    side = side_of(Store.open(tmp_path / "s.h5"))
    assert all(len({side[f"p{3 * g + k:02d}"] for k in range(3)}) == 1 for g in range(10))


def as_dicom(path: Path, patient: str) -> None:
    """Replace a PNG by a DICOM file of the same picture."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage, generate_uid

    pixels = np.asarray(Image.open(path))
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = UltrasoundImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.Modality, dataset.PhotometricInterpretation = "US", "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PatientID, dataset.PixelData = patient, pixels.tobytes()
    dataset.save_as(path.with_suffix(".dcm"), enforce_file_format=True)
    path.unlink()


def test_dicom_files_of_one_patient_stay_on_one_side(data: Path, tmp_path: Path) -> None:
    for number in range(30):
        as_dicom(data / "images" / f"p{number:02d}.png", f"Jane Doe {number % 10}")
    report = prepare(data, tmp_path / "s.h5")
    store = Store.open(tmp_path / "s.h5")
    side = side_of(store)
    assert report.groups == 10
    assert all(len({side[f"p{n + k:02d}"] for k in (0, 10, 20)}) == 1 for n in range(10))
    assert b"Jane" not in (tmp_path / "s.h5").read_bytes()


def test_one_patient_for_all_is_said(data: Path, tmp_path: Path) -> None:
    for number in range(30):
        as_dicom(data / "images" / f"p{number:02d}.png", "ANONYMOUS")
    report = prepare(data, tmp_path / "s.h5")
    assert report.groups == 1 and any("PatientID" in note for note in report.notes)


def test_a_group_and_a_patient_both_hold(data: Path, tmp_path: Path) -> None:
    """Group n is cases 2n and 2n + 1, patient n cases 2n + 1 and 2n + 2, in chains of six."""
    ends = {n: n % 6 in (0, 5) for n in range(30)}
    rows = {f"p{n:02d}": f"g{n // 2},{'' if ends[n] else (n + 1) // 2}" for n in range(30)}
    write_meta(data, "group_id,case_id", rows)
    report = prepare(data, tmp_path / "s.h5")
    side = side_of(Store.open(tmp_path / "s.h5"))
    assert report.groups == 5
    assert all(len({side[f"p{6 * c + k:02d}"] for k in range(6)}) == 1 for c in range(5))


def test_a_given_split_is_kept_and_validation_is_cut_where_missing(
    data: Path, tmp_path: Path
) -> None:
    write_meta(data, "split", {f"p{n:02d}": "test" if n < 5 else "train" for n in range(30)})
    report = prepare(data, tmp_path / "s.h5")
    store = Store.open(tmp_path / "s.h5")
    assert store.splits.test.ids == tuple(f"p{n:02d}" for n in range(5))
    assert 1 <= len(store.splits.val) <= 4 and "given with the data" in report.split_rule


@pytest.mark.parametrize("how", ["group", "mirrored copy"])
def test_a_planted_leak_is_refused_and_writes_nothing(data: Path, tmp_path: Path, how: str) -> None:
    if how == "mirrored copy":
        write_pair(data, "p02", picture(20)[:, ::-1])
    rows = {f"p{n:02d}": f"{'test' if n < 5 else 'train'},g{n}" for n in range(30)}
    if how == "group":
        rows["p02"] = "test,g20"
    write_meta(data, "split,group_id", rows)
    with pytest.raises(InputError, match=r"p0?20?\.png in .* and p0?20?\.png in ") as caught:
        prepare(data, tmp_path / "s.h5")
    assert "p02" in str(caught.value) and "p20" in str(caught.value)
    assert names_in(tmp_path) == ["set"]


def test_bad_files_are_listed_and_the_rest_is_kept(data: Path, tmp_path: Path) -> None:
    (data / "images" / "p00.png").write_bytes(b"")
    (data / "images" / "p01.png").write_text("text")
    whole = (data / "images" / "p02.png").read_bytes()
    (data / "images" / "p02.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(data / "masks" / "p03.png")
    Image.fromarray(picture(4)).save(data / "masks" / "p04.png")
    (data / "masks" / "p05.png").unlink()
    report = prepare(data, tmp_path / "s.h5")
    errors = [problem for problem in report.problems if problem.severity == "error"]
    assert report.cases == 24 and len(errors) == 6
    assert {Path(problem.file).stem for problem in errors} == {f"p{n:02d}" for n in range(6)}
    assert all(problem.reason and problem.remedy for problem in errors)


def test_nothing_usable_is_one_error(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / "bad" / folder).mkdir(parents=True)
    with pytest.raises(InputError, match="no images"):
        prepare(tmp_path / "bad", tmp_path / "s.h5")
    (tmp_path / "bad" / "images" / "a.png").write_text("text")
    (tmp_path / "bad" / "masks" / "a.png").write_text("text")
    with pytest.raises(InputError, match="nothing usable"):
        prepare(tmp_path / "bad", tmp_path / "s.h5")
    assert names_in(tmp_path) == ["bad"]


def test_normal_images_are_cases_and_classes_are_counted(data: Path, tmp_path: Path) -> None:
    write_pair(data, "p00", picture(0), np.zeros((60, 80), np.uint8))
    numbers = np.zeros((60, 80), np.uint8)
    numbers[5:20, 5:20] = 3
    write_pair(data, "p01", picture(1), numbers)
    report = prepare(data, tmp_path / "s.h5")
    store = Store.open(tmp_path / "s.h5")
    assert store.classes == report.classes == ("foreground", "class_2", "class_3")
    labels = store.case("p00").labels
    assert labels is not None and not labels.any()


def test_an_unwritable_place_is_one_error(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError):
        prepare(data, tmp_path / "file" / "s.h5")


def test_check_writes_nothing(data: Path, tmp_path: Path) -> None:
    report = check(data)
    assert report.cases == 30 and report.store == "" and names_in(tmp_path) == ["set"]


def test_a_published_test_set_stays_and_its_twins_leave_training(tmp_path: Path) -> None:
    root = tmp_path / "TN3K"
    for half, first, count in (("trainval", 0, 12), ("test", 50, 4)):
        for number in range(count):
            image = picture(first + number)
            if half == "trainval" and number == 3:
                image = picture(51)[:, ::-1]
            for kind, plane in (("image", image), ("mask", (image > 160) * np.uint8(255))):
                (root / f"{half}-{kind}").mkdir(parents=True, exist_ok=True)
                Image.fromarray(plane).save(root / f"{half}-{kind}" / f"{number:04d}.png")
    (root / "tn3k-trainval-fold0.json").write_text(json.dumps({"val": [0, 1]}))
    report = prepare(root, tmp_path / "s.h5")
    splits = Store.open(tmp_path / "s.h5").splits
    assert splits.test.ids == tuple(f"test_{n:04d}" for n in range(4))
    assert splits.val.ids == ("trainval_0000", "trainval_0001")
    assert "trainval_0003" not in splits.part_of() and "trainval_0003" in report.notes[0]


def test_busi_as_published_gets_the_committed_sides(shared_data: Path, tmp_path: Path) -> None:
    ids = ["benign_001", "benign_002", "malignant_003", "normal_001", "normal_002"]
    for id in ids:
        category, number = id.split("_")
        folder = tmp_path / "Dataset_BUSI_with_GT" / category
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"{category} ({int(number)})"
        source = shared_data / "breast_busi"
        shutil.copy(source / "images" / f"{id}.png", folder / f"{stem}.png")
        shutil.copy(source / "masks" / f"{id}.png", folder / f"{stem}_mask.png")
    prepare(tmp_path / "Dataset_BUSI_with_GT", tmp_path / "s.h5")
    committed = committed_splits("breast_busi")
    assert committed is not None
    side = side_of(Store.open(tmp_path / "s.h5"))
    assert side == {id: committed.part_of()[id] for id in ids}


@pytest.fixture
def committed(monkeypatch: pytest.MonkeyPatch) -> Splits:
    """A committed split of the set `data`: p00 to p25 training, then two and two."""
    ids = [f"p{n:02d}" for n in range(30)]
    splits = Splits.of({"train": ids[:26], "val": ids[26:28], "test": ids[28:]}, "by hand")
    known = {"set": splits}
    monkeypatch.setattr("samling.recipes.survey.committed_splits", known.get)
    return splits


def test_a_committed_split_needs_nine_tenths_of_the_cases(
    data: Path, tmp_path: Path, committed: Splits
) -> None:
    for number in range(3):
        write_pair(data, f"q{number}", picture(100 + number))
    report = prepare(data, tmp_path / "s.h5")
    side = side_of(Store.open(tmp_path / "s.h5"))
    assert report.split_rule.startswith("committed") and len(side) == 33
    assert {id: side[id] for id in committed.part_of()} == committed.part_of()
    write_pair(data, "q3", picture(103))
    report = prepare(data, tmp_path / "s.h5")
    assert not report.split_rule.startswith("committed")
    assert "knows 30 of 34 cases" in report.text() and "own split" in report.text()


def test_training_cases_that_resemble_a_committed_test_set_are_dropped(
    data: Path, tmp_path: Path, committed: Splits
) -> None:
    write_pair(data, "p03", picture(28)[:, ::-1])
    write_meta(data, "group_id", {"p05": "g", "p06": "g", "p27": "g"})
    report = prepare(data, tmp_path / "s.h5")
    splits = Store.open(tmp_path / "s.h5").splits
    assert (splits.val, splits.test) == (committed.val, committed.test)
    assert set(committed.train.ids) - set(splits.train.ids) == {"p03", "p05", "p06"}
    assert any(note.startswith("3 cases") and "p03, p05, p06" in note for note in report.notes)


def test_committed_split_of_busi(shared_data: Path, tmp_path: Path) -> None:
    """The shared set gets the committed split, hash and all; a part of it keeps its sides."""
    report = prepare(shared_data / "breast_busi", tmp_path / "s.h5")
    store = Store.open(tmp_path / "s.h5")
    assert report.split_rule.startswith("committed") and report.cases == 702
    assert report.split_hash.startswith("5ea3e2cefa5e")
    assert not [problem for problem in report.problems if problem.severity != "info"]
    side: dict[str, set[str]] = {}
    for id, part in side_of(store).items():
        side.setdefault(store.meta(id).group, set()).add(part)
    assert all(len(parts) == 1 for parts in side.values())
