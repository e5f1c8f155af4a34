"""The store: what goes in comes out bit for bit, and no damaged file is taken for a store."""

import multiprocessing
import pickle
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from samling.data.case import Case
from samling.data.splits import Splits
from samling.data.store import Store, write_store, writing
from samling.errors import InputError

SPLITS = Splits.of({"train": ["a"], "val": ["b"], "test": ["c"]}, "by hand")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def cases() -> list[Case]:
    generator = np.random.default_rng(0)

    def image(top: int, size: tuple[int, int]) -> np.ndarray:
        return generator.integers(0, top, size).astype(np.float32)

    labels = generator.integers(0, 3, (7, 9)).astype(np.uint8)
    return [
        Case("a", image(256, (7, 9)), labels, (0.1, 0.2), "p1", "g1", "benign", "ultrasound"),
        Case("b", image(65536, (1, 5)), None, source=Path("somewhere/b.png")),
        Case("c", image(256, (30, 20)), np.zeros((30, 20), np.uint8)),
    ]


def write(path: Path) -> str:
    return write_store(
        path, cases(), SPLITS, name="mine", classes=("lesion", "cyst"), licence="CC0"
    )


def read_in_child(store: Store, id: str, queue: "multiprocessing.Queue[float]") -> None:
    queue.put(float(store.case(id).image.sum()))


def test_round_trip_bit_for_bit(tmp_path: Path) -> None:
    content = write(tmp_path / "s.h5")
    store = Store.open(tmp_path / "s.h5")
    assert (store.name, store.classes, store.licence) == ("mine", ("lesion", "cyst"), "CC0")
    assert store.ids == ("a", "b", "c") and len(store) == 3
    assert store.splits == SPLITS and store.content_hash == content
    for case in cases():
        again = store.case(case.id)
        assert again.image.dtype == np.float32
        np.testing.assert_array_equal(again.image, case.image)
        np.testing.assert_array_equal(again.labels, case.labels)
        assert (again.spacing_mm, again.patient, again.category, again.modality) == (
            case.spacing_mm, case.patient, case.category, case.modality,
        )  # fmt: skip
    assert store.meta("b").source == "b.png" and store.meta("b").group == "b"
    store.verify()


def test_a_fold_is_a_store_with_other_splits(tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    splits = Splits.of({"train": ["a", "c"], "val": ["b"], "test": ["d"]})
    more = [*cases(), replace(cases()[0], id="d", group="g4")]
    whole = write_store(path, more, splits, name="mine", classes=("lesion", "cyst"), licence="")
    folds = [Store.open(f"{path}@{fold}of3") for fold in (1, 2, 3)]
    assert sorted(id for fold in folds for id in fold.splits.test.ids) == ["a", "b", "c"]
    assert not any("d" in fold.splits.part_of() for fold in folds), "test images stay out"
    assert len({whole, *(fold.content_hash for fold in folds)}) == 4, "a run tells them apart"
    for fold in folds:
        np.testing.assert_array_equal(fold.case("a").image, cases()[0].image)
        fold.verify()
    assert Store.open(folds[0].path).content_hash == folds[0].content_hash, (
        "its name opens it again"
    )
    with pytest.raises(InputError, match=r"s\.h5: does not exist"):
        Store.open(tmp_path / "no" / "s.h5@1of3")
    with pytest.raises(InputError, match="fold 1 of 4: cannot be made of 3 groups"):
        Store.open(f"{path}@1of4")
    with pytest.raises(InputError, match="fold 4 of 3: is no fold"):
        Store.open(f"{path}@4of3")


def test_the_hash_depends_on_content_alone(tmp_path: Path) -> None:
    assert write(tmp_path / "s.h5") == write(tmp_path / "t.h5")
    other = cases()
    other[2].labels[3, 3] = 1  # type: ignore[index]
    changed = write_store(
        tmp_path / "u.h5", other, SPLITS, name="mine", classes=("lesion", "cyst"), licence="CC0"
    )
    assert changed != write(tmp_path / "s.h5")


@pytest.mark.parametrize(
    "change", [{"group": "g2"}, {"spacing_mm": (0.1, 0.3)}, {"category": "malignant"}], ids=str
)
def test_the_hash_covers_what_is_known_of_a_case(tmp_path: Path, change: dict[str, Any]) -> None:
    first, *rest = cases()
    about = {"name": "mine", "classes": ("lesion", "cyst"), "licence": "CC0"}
    changed = write_store(tmp_path / "t.h5", [replace(first, **change), *rest], SPLITS, **about)
    assert changed != write(tmp_path / "s.h5")
    Store.open(tmp_path / "t.h5").verify()


def test_the_hash_covers_the_classes_and_whole_numbers_of_millimetres(tmp_path: Path) -> None:
    first, *rest = cases()
    whole = [replace(first, spacing_mm=(1, 2)), *rest]
    found = {
        write_store(tmp_path / "s.h5", whole, SPLITS, name="mine", classes=classes, licence="")
        for classes in (("lesion", "cyst"), ("cyst", "lesion"))
    }
    assert len(found) == 2
    Store.open(tmp_path / "s.h5").verify()


def test_pickled_and_forked_stores_read_on(tmp_path: Path) -> None:
    write(tmp_path / "s.h5")
    store = Store.open(tmp_path / "s.h5")
    expected = float(store.case("c").image.sum())
    copy = pickle.loads(pickle.dumps(store))
    assert float(copy.case("c").image.sum()) == expected
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[float] = context.Queue()
    children = [context.Process(target=read_in_child, args=(store, "c", queue)) for _ in range(3)]
    for child in children:
        child.start()
    assert [queue.get(timeout=30) for _ in children] == [expected] * 3
    for child in children:
        child.join()
    store.close()
    assert float(store.case("c").image.sum()) == expected


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("no store")
    (tmp_path / "empty.h5").write_bytes(b"")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = [1]
    for name in ("none.h5", "text.h5", "empty.h5", "other.h5", "."):
        with pytest.raises(InputError, match="Remedy"):
            Store.open(tmp_path / name)


def test_a_newer_schema_names_both_versions(tmp_path: Path) -> None:
    write(tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5", "a") as file:
        file.attrs["schema"] = 7
    with pytest.raises(InputError, match=r"schema 7.* up to 1"):
        Store.open(tmp_path / "s.h5")


def test_every_truncation_is_one_error(tmp_path: Path) -> None:
    write(tmp_path / "s.h5")
    whole = (tmp_path / "s.h5").read_bytes()
    path = tmp_path / "cut.h5"
    for end in range(0, len(whole), len(whole) // 50):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError):
            store = Store.open(path)
            for id in store.ids:
                store.case(id)


def test_changed_pixels_are_noticed(tmp_path: Path) -> None:
    write(tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5", "a") as file:
        file["images/000002"][4, 4] += 1
    store = Store.open(tmp_path / "s.h5")
    with pytest.raises(InputError, match="content hash"):
        store.verify()


def test_links_to_other_files_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "s.h5")
    write(tmp_path / "secret.h5")
    with h5py.File(tmp_path / "s.h5", "a") as file:
        del file["images/000000"]
        file["images/000000"] = h5py.ExternalLink("secret.h5", "/images/000000")
    with pytest.raises(InputError, match="damaged at 'a'"):
        Store.open(tmp_path / "s.h5").case("a")


def test_a_failed_write_leaves_the_old_store_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "s.h5")
    before = (tmp_path / "s.h5").read_bytes()
    with (
        pytest.raises(RuntimeError),
        writing(tmp_path / "s.h5", name="x", classes=("a",), licence="") as writer,
    ):
        writer.add(cases()[0])
        raise RuntimeError("interrupted")
    assert (tmp_path / "s.h5").read_bytes() == before
    assert names_in(tmp_path) == ["s.h5"]


FULL_DISK = """
import resource, signal, sys
import numpy as np
from samling.data.case import Case
from samling.data.splits import Splits
from samling.data.store import write_store
from samling.errors import InputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
noise = np.random.default_rng(0)
cases = (Case(f"c{i}", noise.integers(0, 256, (200, 200)).astype(np.float32)) for i in range(20))
try:
    write_store(sys.argv[1], cases, Splits.of({"train": ["c0"]}), name="x", classes=("a",), licence="")
except InputError as error:
    print("InputError", error)
"""


@pytest.mark.parametrize("limit", [100, 3_000, 50_000, 300_000, 700_000])
def test_a_full_disk_leaves_nothing(tmp_path: Path, limit: int) -> None:
    """A limit on the size of files stands for the full disk."""
    assert resource.RLIMIT_FSIZE is not None
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "s.h5"), str(limit)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("InputError") and "cannot be written" in done.stdout
    assert names_in(tmp_path) == []


def test_values_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    for image in (np.full((2, 2), -1.0), np.full((2, 2), 0.5), np.full((2, 2), np.nan)):
        bad = Case("a", image.astype(np.float32))
        with pytest.raises(ValueError, match="whole numbers"):
            write_store(
                tmp_path / "s.h5", [bad], Splits.of({}), name="x", classes=("a",), licence=""
            )
    assert names_in(tmp_path) == []
