"""crossval: a run per fold and recipe, and what is refused before hours of training."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from samling.data.case import Case
from samling.data.splits import Splits
from samling.data.store import Store, write_store
from samling.errors import InputError
from samling.recipes.crossval import crossval
from samling.recipes.leaks import across_folds

pytest.importorskip("h5py")
pytest.importorskip("matplotlib")

TINY = ["network.input_size=64", "network.width=4", "training.batch_size=8", "training.epochs=1"]


def test_every_image_is_measured_by_a_network_that_has_not_seen_it(tiny_store, tmp_path) -> None:
    out, said = tmp_path / "cv", []
    assert crossval(["unet"], tiny_store, out, 3, overrides=TINY, report=said.append).failures == ()
    whole = Store.open(tiny_store).splits
    ids = {*whole.train.ids, *whole.val.ids}
    count = len(ids)
    for fold in (1, 2, 3):
        about = json.loads((out / f"fold-{fold}" / "unet" / "environment.json").read_text())
        store = Store.open(about["stores"][0])
        assert [store.name, store.content_hash] == about["data"][0]
        held = set(store.splits.test.ids)
        assert held and not held & {*store.splits.train.ids, *store.splits.val.ids}
        ids -= held
    assert not ids
    scores = json.loads((out / "comparison.json").read_text())["stores"]["tiny"]["scores"]
    automatic = next(s for s in scores if (s["method"], s["protocol"]) == ("unet", "auto"))
    assert automatic["n"] == count
    before = (out / "fold-2" / "unet" / "metrics.jsonl").read_bytes()
    crossval(["unet"], tiny_store, out, 3, overrides=TINY, report=said.append)
    assert (out / "fold-2" / "unet" / "metrics.jsonl").read_bytes() == before, "it is kept"


def test_a_stopped_cross_validation_ends_like_an_uninterrupted_one(tiny_store, tmp_path) -> None:
    class StoppedError(Exception):
        pass

    def stop(text: str) -> None:
        if text.startswith("fold 2"):
            raise StoppedError

    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    crossval(["unet"], tiny_store, whole, 3, overrides=TINY, report=lambda text: None)
    with pytest.raises(StoppedError):
        crossval(["unet"], tiny_store, resumed, 3, overrides=TINY, report=stop)
    assert not (resumed / "fold-2").exists()
    crossval(["unet"], tiny_store, resumed, 3, overrides=TINY, report=lambda text: None)
    assert (resumed / "results.csv").read_bytes() == (whole / "results.csv").read_bytes()


def test_adapters_are_measured_beside_their_base_also_through_a_link(tiny_store, tmp_path) -> None:
    (tmp_path / "scratch" / "disk").mkdir(parents=True)
    out = tmp_path / "cv"
    out.symlink_to(tmp_path / "scratch" / "disk")
    none = ["training.epochs=0"]
    summary = crossval(["lg-medseg"], tiny_store, out, 3, "base", none, report=lambda t: None)
    assert summary.failures == ()
    scores = json.loads((out / "comparison.json").read_text())["stores"]["tiny"]["scores"]
    assert {"lg-medseg", "base, as it is"} <= {score["method"] for score in scores}


def test_a_loop_hides_no_copy_of_itself_in_another_fold(tmp_path) -> None:
    """Twelve frames alike, and the same loop mirrored as another patient: each frame has eleven twins."""
    rng = np.random.default_rng(1)
    still, other = (cv2.resize(rng.random((12, 12)), (96, 96)) for _ in range(2))
    frames = [still + 0.03 * n * other for n in range(12)]
    label = np.ones((96, 96), np.uint8)
    shown = {"a": frames, "b": [frame[:, ::-1] for frame in frames]}
    shown["c"] = [cv2.resize(rng.random((12, 12)), (96, 96)) for _ in range(12)]
    cases = [
        Case(f"{name}{n:02}", np.rint(100 * plane).astype(np.float32), label, group=name)
        for name, planes in shown.items()
        for n, plane in enumerate(planes)
    ]
    path = tmp_path / "s.h5"
    splits = Splits.of({"train": [case.id for case in cases]})
    write_store(path, cases, splits, name="s", classes=("x",), licence="")
    store = Store.open(path)
    fold_of = {case.id: "abc".index(case.id[0]) for case in cases}
    found = across_folds(store, fold_of)
    assert {id for one, other, _ in found for id in (one, other)} == {
        id for id in store.ids if id[0] in "ab"
    }


def test_a_mirrored_copy_in_another_fold_is_told_on_the_page(tmp_path) -> None:
    rng = np.random.default_rng(0)
    pictures = [cv2.resize(rng.random((12, 12)), (96, 96)) * 255 for _ in range(9)]
    label = np.zeros((96, 96), np.uint8)
    label[30:60, 30:60] = 1
    pictures[8] = pictures[0][:, ::-1]  # of a patient of its own: no group knows
    cases = [Case(f"c{n}", np.rint(p).astype(np.float32), label) for n, p in enumerate(pictures)]
    path = tmp_path / "s.h5"
    parts = {"train": [case.id for case in cases]}
    write_store(path, cases, Splits.of(parts), name="s", classes=("x",), licence="")
    folds = [Store.open(f"{path}@{k}of3").splits.test.ids for k in (1, 2, 3)]
    assert not any({"c0", "c8"} <= set(ids) for ids in folds), "or this shows nothing"
    crossval(["unet"], path, tmp_path / "cv", 3, overrides=TINY, report=lambda text: None)
    told = "2 images seem to be copies of others in another fold (c0 and c8)"
    for page in ("report.html", "tables.md"):
        assert told in (tmp_path / "cv" / page).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("recipes", "store", "folds", "words"),
    [
        ([], "{}", 3, "RECIPE: is missing"),
        (["unet", "light"], "{}", 3, "light: distils a base"),
        (["unet", "unet"], "{}", 3, "name of another"),
        (["vnet"], "{}", 3, "no such recipe"),
        (["unet", "sam-liver"], "{}", 3, "no setting|network"),
        (["unet"], "{}@1of3", 3, "is a fold"),
        (["unet"], "{}", 11, r"fold 1 of 11: cannot be made of \d groups"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    recipes: list[str], store: str, folds: int, words: str, tiny_store: Path, tmp_path: Path
) -> None:
    given = ["network.input_size=64"] if len(recipes) == 2 else []  # the second has no network
    with pytest.raises(InputError, match=words):
        crossval(recipes, Path(store.format(tiny_store)), tmp_path / "cv", folds, overrides=given)
    assert not (tmp_path / "cv").exists()


def test_a_base_that_knows_the_images_is_refused(
    tiny_store, tiny_run, tmp_path, monkeypatch
) -> None:
    from samling.recipes import crossval as module

    known = module.load_base("untrained")
    card = known.card.model_copy(update={"trained_on": ("tiny",), "split_hash": "0" * 64})
    monkeypatch.setattr(module, "load_base", lambda name: type(known)(known.model, card))
    with pytest.raises(InputError, match="was trained on 'tiny'.*another --base"):
        crossval(["lg-medseg"], tiny_store, tmp_path / "cv", 3, "untrained")
    assert not (tmp_path / "cv").exists()
