"""scripts/pack_base.py: what ships is the mean of what was trained, and of nothing else."""

import sys
from pathlib import Path

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
    folder: Path, value: float, kind: str = "adapter", names: str = "wb", epochs: int = 2, **changes
) -> Path:
    """A base, or a run of two epochs, whose tensors all hold a value."""
    folder.mkdir()
    card(**changes).save(folder / f"{kind}.json")
    prefix = "model." if kind == "adapter" else ""
    from safetensors.torch import save_file

    tensors = {prefix + name: torch.full((3,), value) for name in names}
    save_file(tensors, folder / f"{kind}.safetensors")
    if kind == "adapter":
        (folder / "config.yaml").write_text("training: {epochs: 2}\n")
        lines = [f'{{"epoch": {number + 1}}}' for number in range(epochs)]
        (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def values(weights) -> dict[str, float]:
    return {name: weight.unique().item() for name, weight in weights.items()}


def test_weights_and_threshold_are_means_and_what_a_run_left_is_its_bases(mean_of, tmp_path):
    start = run(tmp_path / "start", 1.0, "base", "wbf", mask_threshold=-0.25)
    every = run(tmp_path / "every", 4.0, names="wb", mask_threshold=0.5)
    other = run(tmp_path / "half", 2.0, "base", "wbf", base_sha256="1" * 64)
    some = run(tmp_path / "some", 8.0, names="b", base_sha256="1" * 64, mask_threshold=1.0)
    weights, threshold = mean_of([start, every], ("a", "b"))
    assert values(weights) == {"w": 2.5, "b": 2.5, "f": 1.0} and threshold == 0.125
    weights, threshold = mean_of([start, other, some, some], ("a", "b"))
    assert values(weights) == {"w": 1.75, "b": 4.75, "f": 1.75} and threshold == 0.4375


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"base_sha256": "1" * 64}, "did not begin with a base of"),
        ({"epochs": 1}, "has 1 of 2 epochs"),
        ({"trained_on": ("a", "c")}, "further sets"),
        ({"names": "wx"}, "weights that its base lacks"),
    ],
)
def test_what_may_not_be_averaged_is_refused_by_name(mean_of, tmp_path, changes, why):
    run(tmp_path / "start", 1.0, "base", "wbf")
    whole, other = run(tmp_path / "whole", 1.0), run(tmp_path / "other", 2.0, **changes)
    for order in ([whole, other], [other, whole]):
        with pytest.raises(InputError, match=why) as refused:
            mean_of(order, ("a", "b"))
        assert "other" in str(refused.value)


def test_parts_of_other_architectures_are_refused(mean_of, tmp_path):
    start, other = (
        run(tmp_path / name, 1.0, "base", names)
        for name, names in (("start", "wbf"), ("other", "wb"))
    )
    for order in ([start, other], [other, start]):
        with pytest.raises(InputError, match="has other weights than"):
            mean_of(order, ("a", "b"))


def test_a_run_whose_epochs_are_not_known_is_refused(mean_of, tmp_path):
    run(tmp_path / "start", 1.0, "base", "wbf")
    unknown = run(tmp_path / "unknown", 1.0)
    (unknown / "metrics.jsonl").unlink()
    with pytest.raises(InputError, match="unknown: has 0 of"):
        mean_of([unknown], ("a", "b"))


def test_a_mean_of_means_names_all_its_parts(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from pack_base import means_of

    for name, parts in (("packed", '["start", "half", "run", "run"]'), ("half", '["start", "x"]')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "parts.json").write_text(parts)
    assert means_of(tmp_path, "packed") == {
        "packed": ["start", "half", "run", "run"],
        "half": ["start", "x"],
    }
    assert means_of(tmp_path, "run") == {}
