"""scripts/pack_base.py: what ships is the mean of what was trained, and of nothing else."""

import sys
from pathlib import Path

import numpy as np
import pytest

from samling.errors import InputError
from samling.inference.card import Card

torch = pytest.importorskip("torch")
pytest.importorskip("h5py")
SCRIPTS = Path(__file__).parents[1] / "scripts"
START = "0" * 64


@pytest.fixture
def mean_of(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from pack_base import mean_of

    yield mean_of
    for name in ("pack_base", "lg_medseg_table"):
        sys.modules.pop(name, None)


def card(**changes) -> Card:
    told = {
        "name": "n",
        "base": "base",
        "base_sha256": START,
        "input_size": 32,
        "embedding_size": 8,
    }
    return Card(**told | {"prompts": ("box",), "trained_on": ("a", "b")} | changes)


def run(
    folder: Path, value: float, kind: str = "adapter", epochs: int = 2, lacks: str = "", **changes
) -> Path:
    """A run of two epochs whose tensors all hold a value."""
    folder.mkdir()
    card(**changes).save(folder / f"{kind}.json")
    prefix = "model." if kind == "adapter" else ""
    names = ["w", "b"] + ["fixed"] * (kind == "base")
    tensors = {prefix + name: torch.full((3,), value) for name in names if name != lacks}
    from safetensors.torch import save_file

    save_file(tensors, folder / f"{kind}.safetensors")
    if kind == "adapter":
        (folder / "config.yaml").write_text("training: {epochs: 2}\n")
        lines = [f'{{"epoch": {number + 1}}}' for number in range(epochs)]
        (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_weights_and_threshold_are_means_and_what_is_never_tuned_stays_out(mean_of, tmp_path):
    start = run(tmp_path / "start", 1.0, "base", mask_threshold=-0.25)
    tuned = run(tmp_path / "tuned", 4.0, mask_threshold=0.5)
    weights, threshold = mean_of([start, tuned], card())
    assert weights.keys() == {"w", "b"} and threshold == 0.125
    assert all(np.array_equal(weight.numpy(), [2.5] * 3) for weight in weights.values())
    alone, threshold = mean_of([tuned], card())
    assert alone["w"].tolist() == [4.0] * 3 and threshold == 0.5


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"base_sha256": "1" * 64}, "did not begin with OUT/start"),
        ({"epochs": 1}, "has 1 of 2 epochs"),
        ({"trained_on": ("a", "c")}, "further sets"),
        ({"lacks": "b"}, "other weights than the others"),
    ],
)
def test_what_may_not_be_averaged_is_refused_by_name(mean_of, tmp_path, changes, why):
    whole, other = run(tmp_path / "whole", 1.0), run(tmp_path / "other", 2.0, **changes)
    for order in ([whole, other], [other, whole]):
        with pytest.raises(InputError, match=why) as refused:
            mean_of(order, card())
        assert ("other" in str(refused.value)) or "lacks" in changes
