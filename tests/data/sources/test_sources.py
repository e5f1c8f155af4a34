"""Each layout on a small data set written the way its publisher does; the numbers are known."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from samling.data.checks import Checked, check_entries
from samling.data.sources.entry import Listing
from samling.data.sources.layouts import LAYOUTS, read_layout
from samling.errors import InputError

HEIGHT, WIDTH = 40, 60


def image(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed + len(path.name)).integers(0, 256, (HEIGHT, WIDTH), np.uint8)
    Image.fromarray(noise).save(path)


def mask(
    path: Path, box: tuple[int, int, int, int] | None = (10, 5, 30, 20), value: int = 255
) -> None:
    """A filled box x0, y0, x1, y1 (exclusive)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    if box:
        values[box[1] : box[3], box[0] : box[2]] = value
    Image.fromarray(values).save(path)


def make_busi(root: Path) -> None:
    for name in ("benign (1)", "benign (12)", "malignant (3)", "normal (2)"):
        folder = root / name.split()[0]
        image(folder / f"{name}.png")
        mask(folder / f"{name}_mask.png", None if "normal" in name else (10, 5, 30, 20))
    mask(root / "benign" / "benign (12)_mask_1.png", (40, 25, 50, 30))
    image(root / "benign" / "benign (7).png")  # without a mask


def make_ddti(root: Path) -> None:
    def points(x0: int, y0: int, x1: int, y1: int) -> str:
        ring = [{"x": x, "y": y} for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]
        return json.dumps([{"points": ring, "annotation": {}, "regionType": "freehand"}])

    def case(*marks: tuple[int, str], tirads: str) -> str:
        body = "".join(f"<mark><image>{i}</image><svg>{svg}</svg></mark>" for i, svg in marks)
        return f"<case><number>9</number><sex>F</sex><tirads>{tirads}</tirads>{body}</case>"

    first = case((1, points(10, 5, 30, 20)), (2, points(2, 2, 5, 5)), tirads="4a")
    (root / "9.xml").write_text(first)
    (root / "10.xml").write_text(case((1, points(0, 0, 4, 4)), tirads="2"))
    (root / "11.xml").write_text("<case><mark>")
    for stem in ("9_1", "9_2", "10_1", "11_1"):
        image(root / f"{stem}.jpg")


def make_tn3k(root: Path) -> None:
    for half, count in (("trainval", 6), ("test", 2)):
        for number in range(count):
            image(root / f"{half}-image" / f"{number:04d}.jpg", number)
            mask(root / f"{half}-mask" / f"{number:04d}.jpg")
    fold = {"train": [0, 1, 2, 3], "val": [4, 5]}
    (root / "tn3k-trainval-fold0.json").write_text(json.dumps(fold))


def make_tg3k(root: Path) -> None:
    for number in (0, 5, 224, 225, 600):
        image(root / "thyroid-image" / f"{number:04d}.jpg", number)
        mask(root / "thyroid-mask" / f"{number:04d}.jpg")


def make_usefd(root: Path) -> None:
    for subject in ("s1", "s2"):
        for number in range(2):
            image(root / subject / "image" / f"{number}.png", number)
            mask(root / subject / "mask" / f"{number}.png")
    image(root / "s10" / "a.png")
    mask(root / "s10" / "a_mask.png")


def make_hc18(root: Path) -> None:
    folder = root / "training_set"
    for stem in ("000_HC", "010_HC", "010_2HC"):
        image(folder / f"{stem}.png")
        outline = Image.new("L", (WIDTH, HEIGHT))
        ImageDraw.Draw(outline).ellipse((10, 10, 40, 30), outline=255)
        outline.save(folder / f"{stem}_Annotation.png")
    (root / "training_set_pixel_size_and_HC.csv").write_text(
        "filename,pixel size(mm),head circumference (mm)\n000_HC.png,0.069,44.3\n010_HC.png,0.2,5\n"
    )


def make_nnunet(root: Path) -> None:
    labels = {"background": 0, "liver": 1, "tumour": 2}
    about = {
        "channel_names": {"0": "CT"},
        "labels": labels,
        "file_ending": ".png",
        "licence": "CC0",
    }
    (root / "dataset.json").write_text(json.dumps(about))
    for name, value in (("liver_001", 1), ("liver_002", 2)):
        image(root / "imagesTr" / f"{name}_0000.png")
        mask(root / "labelsTr" / f"{name}.png", value=value)
    image(root / "imagesTr" / "liver_002_0001.png")


def make_coco(root: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        image(root / "images" / name)
    rle = {"size": [HEIGHT, WIDTH], "counts": [3, 4, HEIGHT * WIDTH - 7]}
    box = [10, 5, 30, 5, 30, 20, 10, 20]
    tables = {
        "images": [
            {"id": i, "file_name": name} for i, name in enumerate(("a.png", "b.png", "c.png"))
        ]
        + [{"id": 8, "file_name": "../../etc/passwd"}],
        "categories": [{"id": 7, "name": "cyst"}, {"id": 9, "name": "solid"}],
        "annotations": [
            {"image_id": 0, "category_id": 9, "segmentation": [box]},
            {"image_id": 1, "category_id": 7, "segmentation": rle},
        ],
    }
    (root / "annotations").mkdir()
    (root / "annotations" / "instances.json").write_text(json.dumps(tables))


def make_folder(root: Path) -> None:
    for stem in ("a", "b", "lonely"):
        image(root / "images" / f"{stem}.png")
    mask(root / "masks" / "a.png")
    mask(root / "masks" / "b.png", None)
    mask(root / "masks" / "stray.png")
    (root / "meta.csv").write_text(
        "id,group_id,class,case_id,target,extra\n"
        "a,g1,benign,p1,nodule,pixel_mm_original=0.1;pixel_mm_staged=0.25\nb,g2,normal,p2,none,\n"
    )


MAKERS: dict[str, Callable[[Path], None]] = {
    "busi": make_busi, "ddti": make_ddti, "tn3k": make_tn3k, "tg3k": make_tg3k,
    "usefd": make_usefd, "hc18": make_hc18, "nnunet": make_nnunet, "coco": make_coco,
    "folder": make_folder,
}  # fmt: skip


def listed(tmp_path: Path, layout: str) -> tuple[Listing, dict[str, Checked]]:
    MAKERS[layout](tmp_path)
    _, listing = read_layout(tmp_path, layout)
    return listing, {one.entry.id: one for one in check_entries(listing.entries, tmp_path)}


def labels(checked: Checked) -> np.ndarray:
    assert checked.case is not None and checked.case.labels is not None, checked.problems
    return checked.case.labels


@pytest.mark.parametrize("layout", MAKERS)
def test_every_layout_is_recognised(tmp_path: Path, layout: str) -> None:
    MAKERS[layout](tmp_path)
    assert read_layout(tmp_path)[0] == layout


def test_busi_unites_masks_and_numbers_like_the_shared_set(tmp_path: Path) -> None:
    listing, found = listed(tmp_path, "busi")
    assert set(found) == {"benign_001", "benign_012", "malignant_003", "normal_002"}
    assert labels(found["benign_012"]).sum() == 20 * 15 + 10 * 5
    assert found["normal_002"].case is not None and not labels(found["normal_002"]).any()
    assert found["malignant_003"].entry.category == "malignant"
    (problem,) = listing.problems
    assert "benign (7)" in problem.file and problem.reason == "has no mask"


def test_ddti_draws_contours_and_reports_broken_xml(tmp_path: Path) -> None:
    listing, found = listed(tmp_path, "ddti")
    assert set(found) == {"ddti_9_1", "ddti_9_2", "ddti_10_1"}
    assert labels(found["ddti_9_1"]).sum() == 20 * 15 and labels(found["ddti_9_2"]).sum() == 9
    assert [found[f"ddti_{stem}"].entry.category for stem in ("9_1", "10_1")] == [
        "malignant",
        "benign",
    ]
    assert found["ddti_9_1"].entry.group == found["ddti_9_2"].entry.group == "case9"
    assert {Path(problem.file).name for problem in listing.problems} == {"11.xml", "11_1.jpg"}


def test_tn3k_brings_its_own_split(tmp_path: Path) -> None:
    listing, found = listed(tmp_path, "tn3k")
    parts = {id: one.entry.part for id, one in found.items()}
    assert parts["trainval_0004"] == "val" and parts["test_0001"] == "test"
    assert list(parts.values()).count("train") == 4 and listing.official
    assert any("JPEG" in problem.reason for problem in found["test_0000"].problems)
    assert abs(int(labels(found["test_0000"]).sum()) - 300) < 20


def test_tg3k_groups_consecutive_frames(tmp_path: Path) -> None:
    _, found = listed(tmp_path, "tg3k")
    groups = [found[f"tg3k_{number:04d}"].entry.group for number in (0, 5, 224, 225, 600)]
    assert groups == ["block00", "block00", "block00", "block01", "block02"]


def test_usefd_has_a_subject_per_folder(tmp_path: Path) -> None:
    _, found = listed(tmp_path, "usefd")
    assert set(found) == {"s1_0", "s1_1", "s2_0", "s2_1", "s10_a"}
    assert found["s2_1"].entry.group == found["s2_1"].entry.patient == "s2"


def test_hc18_fills_outlines_and_knows_scale_and_subject(tmp_path: Path) -> None:
    _, found = listed(tmp_path, "hc18")
    assert labels(found["hc18_000_HC"]).sum() == pytest.approx(np.pi * 15.5 * 10.5, rel=0.02)
    assert found["hc18_000_HC"].entry.spacing_mm == (0.069, 0.069)
    assert found["hc18_010_2HC"].entry.group == found["hc18_010_HC"].entry.group == "subj010"


def test_nnunet_keeps_class_numbers_and_names(tmp_path: Path) -> None:
    listing, found = listed(tmp_path, "nnunet")
    assert listing.classes == ("liver", "tumour") and listing.licence == "CC0"
    assert labels(found["liver_002"]).max() == 2 and found["liver_001"].entry.modality == "ct"
    (problem,) = listing.problems
    assert problem.severity == "warning" and "further channel" in problem.reason


def test_coco_draws_polygons_and_runs_and_stays_in_the_folder(tmp_path: Path) -> None:
    listing, found = listed(tmp_path, "coco")
    assert listing.classes == ("cyst", "solid") and set(found) == {"a", "b", "c"}
    expected = np.zeros((HEIGHT, WIDTH))
    expected[5:20, 10:30] = 2
    np.testing.assert_array_equal(labels(found["a"]), expected)
    np.testing.assert_array_equal(np.nonzero(labels(found["b"])[:, 0])[0], [3, 4, 5, 6])
    assert not labels(found["c"]).any()
    (problem,) = listing.problems
    assert "passwd" in problem.reason


def test_folder_reads_meta_and_lists_what_has_no_partner(tmp_path: Path) -> None:
    listing, found = listed(tmp_path, "folder")
    assert set(found) == {"a", "b"} and listing.classes == ("nodule",)
    entry = found["a"].entry
    assert (entry.group, entry.patient, entry.category) == ("g1", "p1", "benign")
    assert entry.spacing_mm == (0.25, 0.25)
    reasons = {Path(problem.file).name: problem.reason for problem in listing.problems}
    assert reasons == {"lonely.png": "has no mask", "stray.png": "has no image"}


def test_columns_of_meta_that_nobody_reads_are_one_note(tmp_path: Path) -> None:
    make_folder(tmp_path)
    table = tmp_path / "meta.csv"
    table.write_text("id,patient_id,grp,class\na,p1,g1,benign\nb,p2,g2,normal\n")
    _, listing = read_layout(tmp_path, "folder")
    (note,) = [problem for problem in listing.problems if problem.file == str(table)]
    assert note.severity == "info"
    assert note.reason.startswith("columns not used: patient_id, grp (known: id, group_id, ")


def test_a_folder_of_images_with_masks_of_none_is_no_folder_of_healthy_ones(tmp_path: Path) -> None:
    image(tmp_path / "images" / "a.png")
    (tmp_path / "masks").mkdir()
    with pytest.raises(InputError, match=r"masks of none of its 1 images.*--as unlabelled"):
        read_layout(tmp_path, "folder")
    mask(tmp_path / "masks" / "b.png")  # of another image
    with pytest.raises(InputError, match=r"masks of none"):
        read_layout(tmp_path, "folder")
    mask(tmp_path / "masks" / "a.png", None)  # drawn, and nothing there
    _, listing = read_layout(tmp_path, "folder")
    assert [entry.id for entry in listing.entries] == ["a"]


def test_folder_takes_further_masks_as_further_classes(tmp_path: Path) -> None:
    image(tmp_path / "images" / "a.png")
    mask(tmp_path / "masks" / "a.png", (0, 0, 10, 10))
    mask(tmp_path / "masks_vessel" / "a.png", (20, 20, 25, 25))
    _, listing = read_layout(tmp_path)
    (checked,) = check_entries(listing.entries, tmp_path)
    assert listing.classes == ("foreground", "vessel")
    assert labels(checked)[5, 5] == 1 and labels(checked)[22, 22] == 2


def test_pairs_by_name(tmp_path: Path) -> None:
    image(tmp_path / "x.png")
    mask(tmp_path / "x_mask.png")
    mask(tmp_path / "x_mask_1.png", (40, 30, 45, 35))
    layout, listing = read_layout(tmp_path)
    (checked,) = check_entries(listing.entries, tmp_path)
    assert layout == "folder" and labels(checked).sum() == 300 + 25


@pytest.mark.parametrize("layout", [None, *LAYOUTS])
def test_empty_missing_and_unknown_folders(tmp_path: Path, layout: str | None) -> None:
    with pytest.raises(InputError):
        read_layout(tmp_path / "missing", layout)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError):
        read_layout(tmp_path / "file", layout)
    (tmp_path / "empty").mkdir()
    try:
        _, listing = read_layout(tmp_path / "empty", layout)
    except InputError as error:
        assert error.remedy
    else:
        assert layout is not None and not listing.entries


def test_an_unknown_layout_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="busi"):
        read_layout(tmp_path, "nonsense")
    with pytest.raises(InputError, match=r"dataset\.json"):
        read_layout(tmp_path)
