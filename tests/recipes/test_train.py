"""train: a baseline from scratch, resumed bit for bit, and a model like any other."""

import json

import numpy as np
import pytest
import torch

import samling
from samling.config import library
from samling.data.store import Store
from samling.errors import InputError
from samling.models.networks.registry import NETWORKS
from samling.models.weights import read_state
from samling.recipes.adapt import adapt
from samling.recipes.evaluate import evaluate
from samling.recipes.export import export
from samling.recipes.train import train

FAST = ["training.optimiser.rate=0.01", "training.optimiser.warmup_steps=0"]
TINY = ["network.input_size=64", "network.width=4", "training.batch_size=8"]


def run(store, out, *extra: str, recipe: str = "unet"):
    return train(recipe, [store], out, [*TINY, *extra], report=lambda text: None)


@pytest.fixture(scope="module")
def trained(tiny_store, tmp_path_factory):
    return run(tiny_store, tmp_path_factory.mktemp("net") / "run", "training.epochs=2")


def test_there_is_a_recipe_for_every_network() -> None:
    assert set(NETWORKS) <= set(library())


def test_a_run_is_loaded_and_predicts(trained) -> None:
    model = samling.load(trained)
    masks, scores = model.predict(np.random.default_rng(0).random((50, 70)), boxes=[[5, 5, 40, 40]])
    assert masks.shape == (1, 50, 70) and 0 <= scores[0] <= 1
    assert model.card.trained_on == ("tiny",) and model.card.prompts == ("box", "automatic")


@pytest.mark.parametrize("kind", sorted(NETWORKS))
def test_every_network_is_saved_and_loaded(kind, tiny_store, tmp_path) -> None:
    out = run(tiny_store, tmp_path / "run", "training.epochs=0", recipe=kind)
    image = np.random.default_rng(0).random((40, 60))
    masks, _ = samling.load(out).predict(image, boxes=[[5, 5, 40, 30]])
    assert masks.shape == (1, 40, 60)


def test_a_killed_run_ends_like_an_uninterrupted_one(tiny_store, trained, tmp_path) -> None:
    """Batch norms and dropout included: SegNet has the ones, FC-DenseNet both."""
    for recipe, width in (("unet", 4), ("fc-densenet", 2)):
        kinds = [f"network.width={width}", "training.epochs=2"]
        whole = run(tiny_store, tmp_path / f"{recipe}-whole", *kinds, recipe=recipe)

        class KilledError(Exception):
            pass

        def stop(text: str) -> None:
            if text.startswith("epoch 1/2:"):
                raise KilledError

        out = tmp_path / f"{recipe}-killed"
        with pytest.raises(KilledError):
            train(recipe, [tiny_store], out, [*TINY, *kinds], report=stop)
        run(tiny_store, out, *kinds, recipe=recipe)
        one, other = (read_state(path / "network.safetensors") for path in (whole, out))
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_training_learns(tiny_store, tmp_path) -> None:
    out = run(tiny_store, tmp_path / "run", "training.epochs=12", *FAST)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["train"]["total"] < 0.93 * rows[0]["train"]["total"]


def test_evaluate_takes_it_and_knows_what_it_has_seen(tiny_store, trained, tmp_path) -> None:
    report = evaluate(str(trained), tiny_store, tmp_path, "val", ["box", "point1", "auto"])
    content = json.loads((report.parent / "results.json").read_text())
    own = [score for score in content["scores"] if score["method"] == "U-Net"]
    assert [score["protocol"] for score in own] == ["box", "auto"], "points it cannot take"
    assert Store.open(tiny_store).splits.hash in samling.load(trained).card.split_hash


def test_automatic_alone_has_no_box_channel(tiny_store, tmp_path) -> None:
    out = run(tiny_store, tmp_path / "run", "training.prompts=[automatic]", "training.epochs=0")
    model = samling.load(out)
    assert model.card.network == {"kind": "unet", "width": 4, "boxes": False}
    with pytest.raises(InputError, match="has no box prompts"):
        model.predict(np.zeros((64, 64)), boxes=[[1, 1, 9, 9]])


def test_points_are_refused(tiny_store, tmp_path) -> None:
    with pytest.raises(InputError, match="takes no points"):
        run(tiny_store, tmp_path / "run", "training.prompts=[points]")


def test_altered_weights_are_refused(tiny_store, tmp_path) -> None:
    out = run(tiny_store, tmp_path / "run", "training.epochs=0")
    other = run(tiny_store, tmp_path / "other", "training.epochs=0", "seed=1")
    (out / "network.safetensors").write_bytes((other / "network.safetensors").read_bytes())
    with pytest.raises(InputError, match="was altered"):
        samling.load(out)


def test_it_is_no_base_for_adapters(tiny_store, trained, tmp_path) -> None:
    with pytest.raises(InputError, match="is no base"):
        adapt("lg-medseg", [tiny_store], tmp_path / "run", str(trained))


def test_it_is_exported(trained, tmp_path) -> None:
    bundle = export(str(trained), tmp_path / "net.bundle")
    image = np.random.default_rng(0).random((60, 60))
    one, other = (samling.load(m).predict(image, boxes=[[5, 5, 40, 40]]) for m in (trained, bundle))
    assert np.array_equal(one[0], other[0]) and np.allclose(one[1], other[1], atol=1e-3)
