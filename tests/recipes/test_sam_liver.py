"""sam-liver: two classes at once, automatic, from Hounsfield units; trained, reloaded, exported."""

import json

import numpy as np
import pytest
import torch

from samling.data.case import Case
from samling.data.splits import Splits
from samling.data.store import Store, write_store
from samling.errors import InputError
from samling.inference.card import Card
from samling.inference.segmenter import Segmenter
from samling.inference.torch_backend import TorchBackend
from samling.prompts.prompt import Prompt
from samling.recipes.adapt import adapt
from samling.recipes.adapter_set import load_adapters
from samling.recipes.build import load_torch

SMALL = ["training.epochs=1", "training.batch_size=4", "training.precision=fp32"]


def silent(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def scans(ct_phantom, tmp_path_factory):
    """Three patients with liver and tumours: the phantom, moved; slices 8 to 13."""
    cases = []
    for number, name in enumerate("abc"):
        volume = np.roll(ct_phantom, 2 * number, axis=2)
        labels = np.select([volume == 120, np.isin(volume, (40, 41))], [1, 2], 0).astype(np.uint8)
        cases += [
            Case(
                f"{name}_s{k:04d}", volume[k].astype(np.float32), labels[k], group=name,
                patient=name, modality="ct", hounsfield=True,
            )
            for k in range(8, 14)
        ]  # fmt: skip
    parts = {
        part: [case.id for case in cases if case.group == group]
        for part, group in (("train", "a"), ("val", "b"), ("test", "c"))
    }
    path = tmp_path_factory.mktemp("scans") / "scans.h5"
    write_store(
        path, cases, Splits.of(parts), name="scans", classes=("liver", "liver tumour"), licence=""
    )
    return path


@pytest.fixture(scope="module")
def trained(scans, tmp_path_factory, watching):
    """A run of one epoch, three slices as channels, and the model as it was at its end."""
    out = tmp_path_factory.mktemp("runs") / "run"
    with watching() as seen:
        changes = [*SMALL, "intensity.slices=3"]
        adapt("sam-liver", [scans], out, "untrained", changes, report=silent)
    return out, seen[0].model


def test_the_card_repeats_what_training_saw(trained):
    card = Card.read(trained[0] / "adapter.json")
    assert (card.window_hu, card.clahe, card.slices) == ((100.0, 250.0), 2.0, 3)
    assert (card.classes, card.automatic) == (("liver", "liver tumour"), "nested")
    assert card.prompts == ("automatic", "box")
    assert {
        "fusion": True,
        "anatomy": True,
        "train_decoder": "last",
    }.items() <= card.adapter.items()
    [row] = [json.loads(line) for line in (trained[0] / "metrics.jsonl").read_text().splitlines()]
    assert set(row["val"]) == {"auto liver", "auto liver tumour", "box", "score"}
    assert {"bce", "dice", "mask_iou", "presence"} < set(row["train"])


def test_only_the_last_layers_of_the_decoder_learn(trained):
    _, model = trained
    learned = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name.split(".")[0] for name in learned} == {
        "prompt_encoder", "mask_decoder", "presence", "fusion", "anatomy",
    }  # fmt: skip
    decoder = {name for name in learned if name.startswith("mask_decoder.")}
    assert decoder and not any("transformer" in name for name in decoder)
    assert {n for n in learned if n.startswith("prompt_encoder")} == {
        "prompt_encoder.automatic.weight"
    }


@torch.no_grad()
def test_a_reloaded_run_computes_the_same(trained):
    out, model = trained
    again, card = load_torch(out)
    slab = np.random.default_rng(0).integers(-100, 200, (3, 60, 70)).astype(np.float32)
    prompts = [Prompt(class_index=0), Prompt(class_index=1), Prompt(box=np.array([5.0, 5, 40, 50]))]
    ours, theirs = (
        segmenter.decode_square(segmenter.encode(slab), prompts)[0]
        for segmenter in (Segmenter(TorchBackend(m), card) for m in (model, again))
    )
    # the run keeps its best epoch, this run has only one
    np.testing.assert_array_equal(ours, theirs)
    assert (ours[0] != ours[1]).any()
    with pytest.raises(InputError, match="has layers of its own"):
        load_adapters({"one": out})


def test_neighbours_count(trained):
    segmenter = Segmenter(
        TorchBackend(load_torch(trained[0])[0]), Card.read(trained[0] / "adapter.json")
    )
    slab = np.random.default_rng(0).integers(-100, 200, (3, 60, 70)).astype(np.float32)
    with_them = segmenter.encode(slab).encoding.embedding
    alone = segmenter.encode(slab[1]).encoding.embedding
    same = segmenter.encode(np.stack([slab[1]] * 3)).encoding.embedding
    np.testing.assert_array_equal(alone, same)
    assert np.abs(with_them - alone).max() > 1e-3


def test_few_shot_takes_so_many_patients_and_no_more(scans, tmp_path):
    store = Store.open(scans)
    with pytest.raises(InputError, match="has 1 groups of cases for training, 2 are asked for"):
        adapt(
            "sam-liver", [scans], tmp_path / "a", "untrained", [*SMALL, "groups=2"], report=silent
        )
    said = []
    adapt("sam-liver", [scans], tmp_path / "b", "untrained",
          [*SMALL, "groups=1", "training.epochs=0"], report=said.append)  # fmt: skip
    assert len(store.splits.train) == 6
    with pytest.raises(InputError, match="which the recipe does not know"):
        adapt("sam-liver", [scans], tmp_path / "c", "untrained",
              [*SMALL, "classes.names=[liver]"], report=silent)  # fmt: skip
    assert not (tmp_path / "c").exists()


def test_what_a_recipe_cannot_see_is_refused_before_anything_is_written(tiny_store, tmp_path):
    name = Store.open(tiny_store).classes[0]
    windowed = [*SMALL, f"classes.names=[{name}]"]
    plain = [*windowed, "intensity.window=null", "intensity.slices=3"]
    for changes, words in (
        (windowed, "no Hounsfield units"),
        (plain, "no slices that lie beside each other"),
        ([*plain, "training.zoom=2"], "cannot be combined with zoom"),
        ([*windowed, "intensity.window=livre"], "'livre' is no window"),
    ):
        with pytest.raises(InputError, match=words):
            adapt("sam-liver", [tiny_store], tmp_path / "a", "untrained", changes, report=silent)
    assert not (tmp_path / "a").exists()


def test_the_bundle_answers_for_both_classes(trained, tmp_path):
    pytest.importorskip("onnxscript")
    from samling.recipes.export import export
    from samling.recipes.load import load

    bundle = export(str(trained[0]), tmp_path / "bundle")
    exported, original = load(bundle), load(trained[0])
    slab = np.random.default_rng(0).integers(-100, 200, (3, 60, 70)).astype(np.float32)
    prompts = [Prompt(class_index=0), Prompt(class_index=1)]
    ours, theirs = (s.decode_square(s.encode(slab), prompts)[0] for s in (original, exported))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    assert len(exported.encode(slab).encoding.presence) == 2
