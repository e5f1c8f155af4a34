"""What a Ray cluster of this machine does: the same as one process, wherever it is asked for."""

import csv

import pytest

ray = pytest.importorskip("ray", reason="needs samling[cluster]")

import yaml  # noqa: E402

from samling.cache import cache_folder  # noqa: E402
from samling.distillation.cache import EmbeddingCache  # noqa: E402
from samling.errors import InputError  # noqa: E402
from samling.recipes.compare import compare  # noqa: E402
from samling.recipes.distill import distill  # noqa: E402
from samling.recipes.sweep import Sweep  # noqa: E402

SMALL = ["warm_start=false", "embedding.epochs=1", "embedding.batch_size=3", "decoder.epochs=0"]


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(
        num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False
    )
    yield
    ray.shutdown()


def _dice(out):
    with (out / "results.csv").open(encoding="utf-8") as file:
        return [
            (row["method"], row["protocol"], row["id"], row["dice"]) for row in csv.DictReader(file)
        ]


def test_a_comparison_is_the_same_and_its_cells_come_from_the_cluster(tiny_store, tmp_path):
    plan = tmp_path / "plan.yaml"
    methods = {"base": "base", "gone": "runs/gone"}
    content = {"name": "c", "stores": {"tiny": str(tiny_store)}, "methods": methods}
    plan.write_text(yaml.safe_dump(content | {"prompts": ["box"]}), encoding="utf-8")
    alone = compare(plan, tmp_path / "alone")
    sweep = Sweep(plan, tmp_path / "together")
    sweep.on_ray()
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "together/cells").iterdir()}
    assert len(kept) == len(sweep.cells) - 1  # what failed there is tried again here, and said
    together = compare(plan, tmp_path / "together")
    assert {name: (tmp_path / "together/cells" / name).stat().st_mtime_ns for name in kept} == kept
    assert together.failures == alone.failures != ()
    assert _dice(tmp_path / "together") == _dice(tmp_path / "alone") != []


def test_test_images_are_not_looked_at_by_many(tiny_store, tmp_path):
    plan = tmp_path / "plan.yaml"
    content = {"name": "c", "stores": {"tiny": str(tiny_store)}, "methods": {"base": "base"}}
    plan.write_text(yaml.safe_dump(content | {"split": "test"}), encoding="utf-8")
    with pytest.raises(InputError, match="is for validation images"):
        compare(plan, tmp_path / "out", ray=True)


def test_the_teachers_cache_is_filled_and_the_student_the_same(tiny_store, tmp_path, monkeypatch):
    weights = []
    for name, on_ray in (("alone", False), ("together", True)):
        monkeypatch.setenv("SAMLING_CACHE", str(tmp_path / f"cache-{name}"))
        ray.shutdown()  # workers see the environment as it was when they were started
        ray.init(
            num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False
        )
        if on_ray:  # here nothing is left to be computed
            monkeypatch.delattr(EmbeddingCache, "write")
        out = distill(
            "light", [tiny_store], "base", tmp_path / name, SMALL, ray=on_ray, report=lambda _: None
        )
        weights.append((out / "base.safetensors").read_bytes())
        assert any((cache_folder() / "embeddings").glob("*/*.safetensors"))
    assert weights[0] == weights[1]
