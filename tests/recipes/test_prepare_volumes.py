"""prepare on volumes: which slices become cases, and what stays on one side of the split."""

from pathlib import Path

import numpy as np
import pytest

from samling.data.splits import PARTS
from samling.data.store import Store
from samling.errors import InputError
from samling.recipes.prepare import prepare


@pytest.fixture
def patients(tmp_path: Path, ct_phantom: np.ndarray, write_series) -> Path:
    """Three patients as 3Dircadb1 has them: scans and masks of liver and tumour."""
    root = tmp_path / "3Dircadb1"
    for number in range(3):
        hu = np.roll(ct_phantom, number, axis=2)
        folder = root / f"3Dircadb1.{number}"
        mark = {"PatientID": f"P{number}"}

        def change(k: int, dataset, mark=mark) -> None:
            dataset.PatientID = mark["PatientID"]

        write_series(folder / "PATIENT_DICOM", hu, change=change)
        masks = {"liver": np.isin(hu, (120, 40, 41)), "livertumor01": np.isin(hu, (40, 41))}
        for name, marks in masks.items():
            write_series(
                folder / "MASKS_DICOM" / name, marks * 255, change=change, rescale=lambda k: (1, 0)
            )
    return root


def test_slices_can_be_split_at_random_to_show_what_that_is_worth(
    patients: Path, tmp_path: Path
) -> None:
    honest = prepare(patients, tmp_path / "patients.h5")
    assert honest.groups == 3 and not any("LEAKS" in note for note in honest.notes)
    leaking = prepare(patients, tmp_path / "slices.h5", by="slice")
    assert any("LEAKS ON PURPOSE: 3 groups" in note for note in leaking.notes)
    assert "by slice, leaking" in leaking.split_rule
    store = Store.open(tmp_path / "slices.h5")
    groups = [{store.meta(id).group for id in store.splits.ids(part)} for part in PARTS]
    assert groups[0] & groups[1] and groups[0] & groups[2]
    shares = [len(store.splits.ids(part)) / len(store) for part in PARTS]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.05)


def test_blocks_of_slices_stay_together(patients: Path, tmp_path: Path) -> None:
    report = prepare(patients / "3Dircadb1.1", tmp_path / "one.h5", by="block")
    assert any("LEAKS ON PURPOSE: 1 groups" in note for note in report.notes)
    sides: dict[int, set[str]] = {}
    for id, part in Store.open(tmp_path / "one.h5").splits.part_of().items():
        sides.setdefault(int(id[-4:]) // 8, set()).add(part)
    assert len(sides) == 3 and all(len(parts) == 1 for parts in sides.values())


def test_some_slices_without_the_organ_are_kept_if_asked_for(
    patients: Path, tmp_path: Path
) -> None:
    plain = prepare(patients, tmp_path / "a.h5")
    assert any("--empty 4" in note for note in plain.notes)
    more = prepare(patients, tmp_path / "b.h5", empty=2)
    assert not any("--empty" in note for note in more.notes)
    a, b = Store.open(tmp_path / "a.h5"), Store.open(tmp_path / "b.h5")
    assert set(a.ids) < set(b.ids) and all(a.case(id).labels.any() for id in a.ids)
    added = set(b.ids) - set(a.ids)
    assert not any(b.case(id).labels.any() for id in added)
    slices = 3 * len(list((patients / "3Dircadb1.1" / "PATIENT_DICOM").iterdir()))
    assert len(added) == pytest.approx((slices - len(a)) / 2, abs=3)


def test_an_unknown_way_to_split_is_refused(patients: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="use group, slice, block"):
        prepare(patients, tmp_path / "s.h5", by="pixel")
    assert not (tmp_path / "s.h5").exists()
