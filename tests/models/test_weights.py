"""Weights: names, strictness, hashes, and files that are not to be trusted."""

import hashlib
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from samling.errors import InputError
from samling.models.key_maps import litemedsam_state
from samling.models.sam import Sam
from samling.models.weights import (
    load_strict,
    read_state,
    rename,
    sha256_of,
    sha256_of_tensors,
    warm_start,
)


def small_model():
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))


def test_the_rules_cover_every_published_key(litemedsam_weights):
    renamed = litemedsam_state(litemedsam_weights)
    own = Sam("full", automatic=False).state_dict()
    assert set(own) - set(renamed) == {"prompt_encoder.automatic.weight"}
    assert set(renamed) - set(own) == set()
    assert all(renamed[key].shape == own[key].shape for key in renamed)
    # Nothing is lost on the way: four point embeddings become one table
    assert len(renamed) == len(litemedsam_weights) - 3


def test_rules_are_applied_in_order_to_every_key():
    rules = ((r"^a\.", "b."), (r"^b\.(\d)", r"c\1"))
    values = {"a.1": torch.zeros(1), "b.2": torch.ones(1), "x": torch.ones(2)}
    assert list(rename(values, rules)) == ["c1", "c2", "x"]


def test_weights_of_another_model_are_refused():
    with pytest.raises(InputError, match="point_embeddings"):
        litemedsam_state({"layer.weight": torch.zeros(1)})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda state: state.pop("0.bias"), "missing 0.bias"),
        (lambda state: state.update(surplus=torch.zeros(1)), "surplus surplus"),
        (
            lambda state: state.update({"1.weight": torch.zeros(2, 3)}),
            r"1.weight \(2, 3\) instead of \(1, 3\)",
        ),
    ],
)
def test_strict_loading_names_what_does_not_fit(change, problem):
    model, state = small_model(), small_model().state_dict()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    change(state)
    with pytest.raises(InputError, match=problem):
        load_strict(model, state, "weights.pth")
    assert all(torch.equal(model.state_dict()[key], before[key]) for key in before)


def test_new_weights_may_be_absent():
    model, state = small_model(), small_model().state_dict()
    del state["1.weight"], state["1.bias"]
    load_strict(model, state, "weights.pth", new=("1.",))
    torch.testing.assert_close(model[0].weight.data, state["0.weight"])
    with pytest.raises(InputError, match=r"missing 1\.weight"):
        load_strict(model, state, "weights.pth", new=("1.bias",))


def test_warm_start_copies_what_fits_and_names_the_rest():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    source = small_model().state_dict()
    untouched = model[1].weight.clone()
    assert warm_start(model, source) == ["1.weight", "1.bias"]
    assert torch.equal(model[0].weight, source["0.weight"])
    assert torch.equal(model[1].weight, untouched)


@pytest.mark.parametrize(("old", "new"), [(7, 8), (14, 16), (8, 7)])
def test_attention_biases_are_resampled_linearly_in_the_offset(old, new):
    model = nn.Module()
    model.attention_biases = nn.Parameter(torch.zeros(1, new * new))
    y, x = torch.meshgrid(torch.linspace(0, 1, old), torch.linspace(0, 1, old), indexing="ij")
    assert warm_start(model, {"attention_biases": (3 * y - x).reshape(1, -1)}) == []
    y, x = torch.meshgrid(torch.linspace(0, 1, new), torch.linspace(0, 1, new), indexing="ij")
    torch.testing.assert_close(model.attention_biases.data, (3 * y - x).reshape(1, -1))


def test_both_formats_are_read(tmp_path):
    state = small_model().state_dict()
    torch.save(state, tmp_path / "a.pth")
    save_file(state, tmp_path / "a.safetensors")
    for name in ("a.pth", "a.safetensors"):
        read = read_state(tmp_path / name)
        assert read.keys() == state.keys()
        assert all(torch.equal(read[key], state[key]) for key in state)


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("writer", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o))])
def test_a_pickle_that_runs_code_is_refused(tmp_path, writer):
    path, marker = tmp_path / "evil.pth", tmp_path / "ran"
    writer({"weight": torch.zeros(1), "x": Malicious(marker)}, path)
    with pytest.raises(InputError, match="is a pickle that holds more than weights") as error:
        read_state(path)
    assert "weights_only" not in str(error.value)
    assert not marker.exists()


@pytest.mark.parametrize(
    "content", [[torch.zeros(1)], torch.zeros(1), {"model": {"w": torch.zeros(1)}}, {"epoch": 3}]
)
def test_anything_but_a_flat_table_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(InputError, match="flat table"):
        read_state(tmp_path / "odd.pth")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_missing_and_truncated_files_are_refused(tmp_path, suffix):
    path = tmp_path / f"w.{suffix}"
    with pytest.raises(InputError, match="missing"):
        read_state(path)
    whole = tmp_path / f"whole.{suffix}"
    (torch.save if suffix == "pth" else save_file)(small_model().state_dict(), whole)
    for size in (0, 5, whole.stat().st_size // 2):
        path.write_bytes(whole.read_bytes()[:size])
        with pytest.raises(InputError, match=f"is cut short: it has {size} bytes"):
            read_state(path)


def test_hash_of_a_file(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert sha256_of(path) == hashlib.sha256(b"abc").hexdigest()


def test_hash_of_tensors_sees_names_values_types_and_shapes_but_no_order():
    state = {"a": torch.arange(4.0), "n": torch.tensor(3), "b": torch.tensor([True])}
    digest = sha256_of_tensors(state)
    assert sha256_of_tensors(dict(reversed(state.items()))) == digest
    assert sha256_of_tensors({**state, "a": torch.arange(8.0)[::2] / 2}) == digest
    changes = [
        {**state, "a": torch.tensor([0.0, 1, 2, 3.0000002])},
        {**state, "a": torch.arange(4.0).view(2, 2)},
        {**state, "a": torch.arange(4.0).view(torch.int32)},
        {**state, "n": torch.tensor(4)},
        {"c": state["a"], "n": state["n"], "b": state["b"]},
        {"a": state["a"], "n": state["n"]},
    ]
    assert len({digest, *map(sha256_of_tensors, changes)}) == len(changes) + 1


def test_warm_start_resamples_tables_of_as_many_heads_alone():
    model = nn.Module()
    model.attention_biases = nn.Parameter(torch.zeros(4, 9))
    ramp = torch.arange(4.0).repeat(4, 1)
    assert warm_start(model, {"attention_biases": ramp}) == []
    torch.testing.assert_close(
        model.attention_biases[0], torch.tensor([0, 0.5, 1, 1, 1.5, 2, 2, 2.5, 3])
    )
    other = nn.Module()
    other.attention_biases = nn.Parameter(torch.zeros(2, 9))
    assert warm_start(other, {"attention_biases": ramp}) == ["attention_biases"]
