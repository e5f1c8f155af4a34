import csv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from samling.errors import InputError
from samling.inference.expectation import Expected
from samling.inference.regions import box_around
from samling.inference.results import ResultFolder
from samling.inference.segmenter import Object

IMAGE = np.arange(600, dtype=np.uint16).reshape(20, 30)


def thing(x0, x1, class_name="object"):
    mask = np.zeros(IMAGE.shape, dtype=bool)
    mask[5:15, x0:x1] = True
    return Object(mask, 0.5, 0.25, 0.75, box_around(mask), class_name)


def rows(folder):
    with (folder / "results.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_mask_holds_all_objects_and_the_table_a_row_each(tmp_path):
    results = ResultFolder(tmp_path / "out")
    path = results.add(
        Path("a/scan.dcm"), IMAGE, [thing(2, 8), thing(20, 30)], spacing_mm=(0.5, 0.2)
    )
    results.write_table()
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert mask.shape == IMAGE.shape
    assert set(np.unique(mask)) == {0, 255}
    assert (mask > 0).sum() == 160
    first, second = rows(tmp_path / "out")
    assert first["file"] == "scan.dcm"
    assert first["mask"] == "scan.png"
    assert (second["object"], second["class"], second["score"]) == ("2", "object", "0.5000")
    assert [second[key] for key in ("x0", "y0", "x1", "y1")] == ["20", "5", "30", "15"]
    assert float(first["area_mm2"]) == 6.0
    assert float(second["area_px"]) == 100


def test_no_two_results_share_a_name(tmp_path):
    results = ResultFolder(tmp_path)
    sources = ["x/a.png", "y/a.png", "a.jpg", "A.tif", "a_overlay.png", "results.png", "a_2.png"]
    paths = [results.add(Path(source), IMAGE, []) for source in sources]
    paths += [results.add(Path("a.dcm"), IMAGE, [], frame=k) for k in (0, 1)]
    results.write_table()
    names = [path.name.casefold() for path in paths]
    assert len(set(names)) == len(sources) + 2
    assert names[-1] == "a_f001.png"
    files = [path.name.casefold() for path in tmp_path.iterdir()]
    assert len(files) == len(set(files)) == 2 * len(names) + 1


def test_rows_tell_inputs_of_one_name_apart(tmp_path):
    results = ResultFolder(tmp_path)
    for source in ("x/a.png", "y/a.png", "y/b.png", "x/a.png"):
        results.add(Path(source), IMAGE, [thing(2, 8)])
    assert [row["file"] for row in results.rows] == ["a.png", "y/a.png", "b.png", "a.png"]


def test_what_is_less_sure_than_nearly_all_has_that_reason(tmp_path):
    results = ResultFolder(tmp_path)
    good = Expected(0.9, 0.8, 1.0)
    unsure = [replace(thing(2, 8), expected=each) for each in (good, good._replace(rare=True))]
    results.add(Path("a.png"), IMAGE, unsure)
    results.write_table()
    told = [(row["expected_high"], row["look"], row["reason"]) for row in rows(tmp_path)]
    reason = "less sure than of nearly all it was calibrated on"
    assert told == [("1.000", "no", ""), ("1.000", "yes", reason)]


def test_long_and_hidden_names_stay_inside_the_folder(tmp_path):
    results = ResultFolder(tmp_path / "out")
    for stem in ("ä" * 120, "..", ".hidden", "; rm -rf $(x)", "\u202egnp"):
        path = results.add(Path(f"{stem}.png"), IMAGE, [])
        assert path.resolve().parent == (tmp_path / "out").resolve()
        assert path.is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_a_given_stem_is_taken_as_it_is(tmp_path):
    for frame in range(3):
        path = ResultFolder(tmp_path).add(Path("a.dcm"), IMAGE, [], frame=frame, stem="x" * 190)
        assert path.name == "x" * 190 + f"_f{frame:03d}.png"
    assert len(list(tmp_path.iterdir())) == 6


def test_an_empty_object_has_a_row_without_a_box(tmp_path):
    results = ResultFolder(tmp_path)
    empty = Object(np.zeros(IMAGE.shape, dtype=bool), 0.1, 0.1, None, None, "object")
    results.add(Path("a.png"), IMAGE, [empty])
    results.write_table()
    (row,) = rows(tmp_path)
    assert (row["area_px"], row["x0"], row["area_mm2"]) == ("0", "", "")
    assert (row["look"], row["reason"]) == ("yes", "nothing found")


def test_a_frame_without_an_object_has_a_row_with_its_scale(tmp_path):
    results = ResultFolder(tmp_path)
    results.add(Path("a.dcm"), IMAGE, [thing(2, 8)], spacing_mm=(0.5, 0.2), frame=0)
    results.add(Path("a.dcm"), IMAGE, [], spacing_mm=(0.5, 0.2), frame=1)
    results.add(Path("b.png"), IMAGE, [], asked=False)
    results.write_table()
    first, second = rows(tmp_path)
    assert (first["object"], first["look"], first["reason"]) == ("1", "", "")
    assert (second["object"], second["frame"], second["mask"]) == ("0", "1", "a_f001.png")
    assert (second["spacing_row_mm"], second["area_px"], second["score"]) == ("0.5", "", "")


def values_in(path):
    return np.unique(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)).tolist()


def test_masks_of_several_classes_hold_their_numbers(tmp_path):
    results = ResultFolder(tmp_path, ("lesion", "cyst", "duct"))
    path = results.add(Path("a.png"), IMAGE, [thing(2, 8, "duct"), thing(20, 30, "lesion")])
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert (mask[10, 4], mask[10, 25], mask[0, 0]) == (3, 1, 0)
    one = ResultFolder(tmp_path / "one", ("lesion",))
    assert values_in(one.add(Path("a.png"), IMAGE, [thing(2, 8, "lesion")])) == [0, 255]


@pytest.mark.parametrize("classes", [("lesion",), ("lesion", "cyst")])
def test_a_class_that_the_model_lacks_is_refused(tmp_path, classes):
    results = ResultFolder(tmp_path, classes)
    with pytest.raises(InputError, match="'tumour' is not a class of this model") as caught:
        results.add(Path("x/a.png"), IMAGE, [thing(2, 8, "lesion"), thing(9, 12, "tumour")])
    assert caught.value.where == "x/a.png, object 2, class"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("generic", ["object", "foreground"])
def test_a_generic_model_takes_any_label(tmp_path, generic):
    results = ResultFolder(tmp_path, (generic,))
    assert values_in(results.add(Path("a.png"), IMAGE, [thing(2, 8, "tumour")])) == [0, 255]
    results.write_table()
    assert rows(tmp_path)[0]["class"] == "tumour"


def test_a_failed_block_takes_back_files_rows_and_names(tmp_path):
    results = ResultFolder(tmp_path)
    results.add(Path("a.png"), IMAGE, [thing(2, 8)])
    with pytest.raises(RuntimeError), results.all_or_nothing():
        results.add(Path("b.dcm"), IMAGE, [thing(2, 8)], frame=0)
        raise RuntimeError
    with results.all_or_nothing():
        assert results.add(Path("b.dcm"), IMAGE, [thing(2, 8)], frame=0).name == "b_f000.png"
    results.write_table()
    assert [row["mask"] for row in rows(tmp_path)] == ["a.png", "b_f000.png"]
    assert len(list(tmp_path.iterdir())) == 5
