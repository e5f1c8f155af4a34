"""Leaks between stores and of a run: refused by content, whatever the names."""

import json

import numpy as np
import pytest

from samling.cli import main
from samling.data.case import Case
from samling.data.splits import Splits
from samling.data.store import Store, write_store
from samling.errors import InputError
from samling.recipes.evaluate import evaluate
from samling.recipes.leaks import between_stores, refuse_seen_images
from samling.recipes.train import train


@pytest.fixture(scope="module")
def planted(tiny_store, tmp_path_factory):
    """Another store under another name: in validation two training images, mirrored and turned."""
    store = Store.open(tiny_store)
    copies = [store.case(id) for id in store.splits.train.ids[:2]]
    turns = (lambda plane: plane[:, ::-1], np.rot90)
    cases = [
        Case(f"new-{n}", *(np.ascontiguousarray(turn(p)) for p in (case.image, case.labels)))
        for n, (case, turn) in enumerate(zip(copies, turns, strict=True))
    ]
    noise = np.random.default_rng(0).integers(0, 255, (64, 80)).astype(np.float32)
    cases.append(Case("other", noise, np.zeros(noise.shape, np.uint8)))
    path = tmp_path_factory.mktemp("planted") / "planted.h5"
    splits = Splits.of({"train": ["other"], "val": ["new-0", "new-1"]})
    write_store(path, cases, splits, name="planted", classes=("lesion",), licence="none")
    return path


def test_the_copies_are_named(tiny_store, planted) -> None:
    found = {str(leak) for leak in between_stores([tiny_store, planted]) if leak.pairs}
    assert any("2 of 3 images of planted are in tiny" in text for text in found)


def test_a_run_is_not_measured_on_its_training_images(tiny_store, planted, tmp_path) -> None:
    sizes = ["network.width=4", "network.input_size=32", "training.epochs=0"]
    run = train("unet", [tiny_store], tmp_path / "run", sizes, report=lambda text: None)
    with pytest.raises(InputError, match="2 of 2 images of planted are in the training images"):
        evaluate(str(run), planted, tmp_path / "out", "val", ["box"])
    ids = Store.open(tiny_store).splits.val.ids
    refuse_seen_images(str(run), Store.open(tiny_store), ids, print)  # its own validation is fine


def test_a_store_that_is_gone_is_passed_over_aloud(planted, tmp_path) -> None:
    said: list[str] = []
    (tmp_path / "environment.json").write_text(json.dumps({"stores": ["/nowhere.h5"]}))
    refuse_seen_images(str(tmp_path), Store.open(planted), ["new-0"], said.append)
    assert "are gone" in said[0]


def test_doctor_says_it_and_exits_with_1(tiny_store, planted, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", str(tiny_store), str(planted)])
    assert stopped.value.code == 1 and "2 of 3 images of planted" in capsys.readouterr().out
