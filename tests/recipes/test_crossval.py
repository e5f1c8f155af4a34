"""crossval: a run per fold and recipe, and what is refused before hours of training."""

import json
from pathlib import Path

import pytest

from samling.data.store import Store
from samling.errors import InputError
from samling.recipes.crossval import crossval

pytest.importorskip("h5py")
pytest.importorskip("matplotlib")

TINY = ["network.input_size=64", "network.width=4", "training.batch_size=8", "training.epochs=1"]


def test_every_image_is_measured_by_a_network_that_has_not_seen_it(tiny_store, tmp_path) -> None:
    out, said = tmp_path / "cv", []
    assert crossval(["unet"], tiny_store, out, 3, overrides=TINY, report=said.append).failures == ()
    ids = set(Store.open(tiny_store).ids)
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
    assert automatic["n"] == 20
    before = (out / "fold-2" / "unet" / "metrics.jsonl").read_bytes()
    crossval(["unet"], tiny_store, out, 3, overrides=TINY, report=said.append)
    assert (out / "fold-2" / "unet" / "metrics.jsonl").read_bytes() == before, "it is kept"


@pytest.mark.parametrize(
    ("recipes", "store", "folds", "words"),
    [
        ([], "{}", 3, "RECIPE: is missing"),
        (["unet", "light"], "{}", 3, "light: distils a base"),
        (["unet", "unet"], "{}", 3, "name of another"),
        (["vnet"], "{}", 3, "no such recipe"),
        (["unet"], "{}@1of3", 3, "is a fold"),
        (["unet"], "{}", 11, "fold 1 of 11: cannot be made of 10 groups"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    recipes: list[str], store: str, folds: int, words: str, tiny_store: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        crossval(recipes, Path(store.format(tiny_store)), tmp_path / "cv", folds)
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
