"""Checks: each kind of bad file gives its one problem, with a file, a reason and a remedy."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samling.data.checks import check_entries, check_entry
from samling.data.readers.plane import ImagePlane
from samling.data.sources.entry import Entry, MaskFile

GREY = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
MASK = np.zeros((20, 30), np.uint8)
MASK[5:9, 5:9] = 255


def entry(
    folder: Path, image: np.ndarray = GREY, mask: np.ndarray = MASK, suffix: str = ".png"
) -> Entry:
    Image.fromarray(image).save(folder / "a.png")
    Image.fromarray(mask).save(folder / f"a_mask{suffix}")
    return Entry("a", folder / "a.png", (MaskFile(folder / f"a_mask{suffix}"),), group="g")


def test_a_clean_pair_becomes_a_case(tmp_path: Path) -> None:
    checked = check_entry(entry(tmp_path, mask=MASK // 255))
    assert checked.problems == () and checked.case is not None
    np.testing.assert_array_equal(checked.case.image, GREY)
    np.testing.assert_array_equal(checked.case.labels, MASK // 255)
    assert checked.case.source == tmp_path / "a.png" and checked.case.group == "g"


def test_the_patient_comes_from_the_list_or_else_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = entry(tmp_path)
    plane = ImagePlane(GREY, patient="hash")
    monkeypatch.setattr("samling.data.checks.read_any", lambda path: plane)
    cases = [
        check_entry(replace(good, **known)).case
        for known in ({}, {"group": None}, {"patient": "p", "group": None})
    ]
    found = [(case.patient, case.group) for case in cases if case is not None]
    assert found == [("hash", "g"), ("hash", "hash"), ("p", "p")]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mask": MASK[:10]}, "is 10 x 30, its image 20 x 30"),
        ({"mask": GREY}, "is no mask"),
        ({"mask": np.stack([GREY, MASK, MASK], -1)}, "colour"),
    ],
)
def test_errors_keep_the_case_out(
    tmp_path: Path, change: dict[str, np.ndarray], reason: str
) -> None:
    checked = check_entry(entry(tmp_path, **change))
    (problem,) = checked.problems
    assert checked.case is None and problem.severity == "error" and reason in problem.reason
    assert problem.file.endswith("a_mask.png") and problem.remedy


@pytest.mark.parametrize(
    ("change", "severity", "reason"),
    [
        ({}, "info", "255 taken as class 1"),
        ({"mask": MASK * 0}, "info", "empty mask"),
        ({"image": GREY.astype(np.uint16) * 256, "mask": MASK // 255}, "info", "16-bit"),
        ({"image": np.stack([GREY, MASK, MASK], -1), "mask": MASK // 255}, "info", "colour"),
        ({"suffix": ".jpg"}, "warning", "JPEG"),
        ({"image": GREY * 0, "mask": MASK // 255}, "warning", "one grey level"),
    ],
)
def test_remarks_let_the_case_in(
    tmp_path: Path, change: dict[str, np.ndarray], severity: str, reason: str
) -> None:
    checked = check_entry(entry(tmp_path, **change))
    (problem,) = checked.problems
    assert checked.case is not None
    assert problem.severity == severity and reason in problem.reason


def test_unreadable_images_and_ids_that_come_twice(tmp_path: Path) -> None:
    good = entry(tmp_path)
    broken = Entry("b", tmp_path / "b.png", good.shapes)
    broken.image.write_text("this is no image")
    twice = Entry("a", tmp_path / "a.png", good.shapes)
    found = list(check_entries([good, broken, twice], tmp_path))
    assert [one.case is not None for one in found] == [True, False, False]
    assert found[1].problems[0].file == "b.png"
    assert "has the id 'a'" in found[2].problems[0].reason
