"""Cost: multiply-adds and memory of a model whose figures are known."""

import numpy as np
import pytest
import torch

from samling.evaluation import cost
from samling.evaluation.baselines import baseline
from samling.evaluation.cost import WARM_RUNS, measure_cost
from samling.inference.card import Card
from samling.inference.segmenter import Segmenter
from samling.inference.torch_backend import TorchBackend
from samling.models.contract import Embedding, MaskLogits

SIDE = 64


class OneConvolution(torch.nn.Module):
    input_size, embedding_size = SIDE, SIDE // 4

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(1, 8, 3, padding=1)

    @property
    def module(self) -> torch.nn.Module:
        return self

    def encode(self, images):
        self.ballast = torch.ones(4_000_000).sum()  # 16 MB for a moment
        return Embedding(self.layer(images), None)

    def decode(self, embedding, prompts):
        objects = prompts.labels.shape[1]
        masks = embedding.image[:, :1].expand(-1, objects, -1, -1)
        return MaskLogits(masks, torch.ones(1, objects))


def test_a_convolution_by_hand() -> None:
    card = Card(name="c", base="b", base_sha256="0", input_size=SIDE, embedding_size=SIDE // 4,
                prompts=("box",))  # fmt: skip
    segmenter = Segmenter(TorchBackend(OneConvolution()), card)
    found = measure_cost(segmenter, [np.random.default_rng(0).random((50, 60))], 80)
    assert found.macs == 9 * 8 * SIDE * SIDE and found.parameters == 80
    assert found.ms > 0 and found.p95_ms >= 0 and found.cold_ms > 0
    if found.memory_mb is not None:
        assert 5 < found.memory_mb < 500


def test_no_image_is_timed_twice() -> None:
    """A bundle remembers the images it has seen: of an image of before it would time nothing."""
    seen = []

    class Remembers(TorchBackend):
        def encode(self, plane):
            seen.append(plane.tobytes())
            return super().encode(plane)

    card = Card(name="c", base="b", base_sha256="0", input_size=SIDE, embedding_size=SIDE // 4,
                prompts=("box",))  # fmt: skip
    image = np.random.default_rng(0).random((50, 60)).astype(np.float32)
    measure_cost(Segmenter(Remembers(OneConvolution()), card), [image], 80)
    assert len(set(seen)) > WARM_RUNS  # counting the operations sees the first again


def test_energy_is_what_the_packages_counted(tmp_path, monkeypatch) -> None:
    """Two packages; cores inside a package (`:0:0`) count once. Nothing readable: nothing said."""
    monkeypatch.setattr(cost, "POWERCAP", tmp_path)
    assert cost.joules_so_far() is None
    for name, kind, microjoules in (
        ("0", "package-0", 2_500_000), ("1", "package-1", 500_000), ("2", "psys", 7_000_000),
        ("0:0", "core", 9_000_000),
    ):  # fmt: skip
        (tmp_path / f"intel-rapl:{name}").mkdir()
        (tmp_path / f"intel-rapl:{name}" / "name").write_text(f"{kind}\n")
        (tmp_path / f"intel-rapl:{name}" / "energy_uj").write_text(f"{microjoules}\n")
    assert cost.joules_so_far() == 3.0
    told = iter([10.0, 12.0])
    monkeypatch.setattr(cost, "joules_so_far", lambda: next(told))
    image = np.zeros((40, 40), np.float32)
    assert measure_cost(baseline("fill the box"), [image], 0).joules == 2.0 / WARM_RUNS


def test_a_rule_has_no_multiply_adds_to_count() -> None:
    found = measure_cost(baseline("fill the box"), [np.zeros((40, 40), np.float32)], 0)
    assert found.macs is None and found.parameters == 0


def test_cost_needs_an_image() -> None:
    with pytest.raises((IndexError, ZeroDivisionError)):
        measure_cost(baseline("fill the box"), [], 0)
