"""What the base was trained on is known by content, under any name."""

import json
from importlib import resources

import cv2
import numpy as np
import pytest

from samling.data.picture_hash import picture_hash
from samling.data.store import Store
from samling.inference.card import Card
from samling.recipes import seen
from samling.recipes.evaluate import evaluate

WEIGHTS = resources.files("samling") / "weights"


@pytest.fixture
def store(tiny_store):
    return Store.open(tiny_store)


@pytest.fixture
def trained_on(store, tmp_path, monkeypatch):
    """Let the base have been trained on these images of the store."""

    def set_up(ids):
        hashes = [picture_hash(store.case(id).image) for id in ids]
        np.save(tmp_path / seen.SEEN, np.stack(hashes))
        (tmp_path / "base.json").write_bytes((WEIGHTS / "base.json").read_bytes())
        monkeypatch.setattr(seen, "SHIPPED", {"base": tmp_path})

    return set_up


def test_copies_of_training_images_are_counted_and_named(store, trained_on) -> None:
    trained_on(store.splits.train.ids)
    first = store.splits.train.ids[0]
    said = seen.seen_by_base({"mine": (store, [*store.splits.val.ids, first])})[0]
    count, known = len(store.splits.val.ids) + 1, len(store.splits.train.ids)
    assert said.startswith(
        f"1 of the {count} images of mine measured here was recognised as a copy of one of the {known} "
    )
    assert f"({first}; crops" in said and said.endswith("flatter.")


def test_none_is_said_to_be_none_and_what_is_not_recognised(store, trained_on) -> None:
    trained_on(store.splits.train.ids)
    (said,) = seen.seen_by_base({"mine": (store, store.splits.val.ids)})
    assert said.startswith("None of the ") and "flatter" not in said and "crops" in said


def test_of_many_a_few_are_named(store, trained_on) -> None:
    ids = store.splits.train.ids
    trained_on(ids)
    (said,) = seen.seen_by_base({"mine": (store, ids)})
    assert f"{len(ids)} of the {len(ids)}" in said and f"{ids[4]}, …" in said and ids[5] not in said


def test_the_base_and_what_is_made_of_it_are_known_by_the_weights() -> None:
    base = Card.model_validate_json((WEIGHTS / "base.json").read_bytes())
    assert seen.made_of_base(base.base_sha256)
    assert not seen.made_of_base("0" * 64) and not seen.made_of_base(None)


def test_evaluate_says_it_beside_the_first_figure(tiny_store, tmp_path) -> None:
    evaluate("base", tiny_store, tmp_path / "out", "val", ["box"])
    for name in ("report.html", "table.md"):
        page = (tmp_path / "out" / name).read_text(encoding="utf-8")
        assert "images of tiny measured here was recognised as a copy" in page


def test_the_hashes_that_ship_are_of_as_many_images_as_the_base_was_trained_on() -> None:
    about = json.loads((WEIGHTS / "about.json").read_text())
    images = sum(entry["training_images"] for entry in about["data"].values())
    hashes = np.load(str(WEIGHTS / seen.SEEN), allow_pickle=False)
    assert hashes.shape == (images, 32) and hashes.dtype == np.uint8


@pytest.mark.parametrize("name", json.loads((WEIGHTS / "base.json").read_text())["trained_on"])
def test_training_images_of_the_shared_sets_are_known_and_validation_images_are_not(
    shared_data, name
) -> None:
    split = json.loads(
        (resources.files("samling.data") / "public_splits" / f"{name}.json").read_text()
    )
    hashes = np.load(str(WEIGHTS / seen.SEEN), allow_pickle=False)
    for part, wanted in (("train", True), ("val", False)):
        for id in split[part][:5]:
            (path,) = (shared_data / name / "images").glob(f"{id}.*")
            picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            assert (seen.known_among(hashes, picture) is not None) == wanted, (part, id)
