"""adapter_set: many runs over one base compute exactly what each computes alone."""

from pathlib import Path

import pytest
import torch

from samling.adapters.injection import save_adapter
from samling.config import AdapterSection
from samling.errors import InputError
from samling.recipes.adapter_set import load_adapters
from samling.recipes.build import load_base, load_torch, trainee

SECTIONS = {
    "lr": AdapterSection(kind="lr", sites=("conv", "mlp"), rank=4),
    "serial": AdapterSection(kind="serial", sites=("attention", "block:0"), placement="serial"),
    "lora": AdapterSection(kind="lora", sites=("block", "mlp"), rank=4),
    "med2d": AdapterSection(kind="med2d", sites=("conv", "mlp")),
}


def made_run(
    folder: Path, section: AdapterSection, seed: int, base_sha256: str | None = None
) -> Path:
    base = load_base("untrained")
    run = trainee(base.model, section, seed=seed)
    noise = torch.Generator().manual_seed(seed)
    state = {
        key: value + 0.1 * torch.randn(value.shape, generator=noise)
        for key, value in run.state().items()
    }
    folder.mkdir()
    save_adapter(folder / "adapter.safetensors", state)
    flags = {"train_decoder": False, "train_encoder": False}
    changes = {"adapter": section.model_dump(mode="json") | flags, "prompts": ("automatic",)}
    changes |= {"base_sha256": base_sha256} if base_sha256 else {}
    base.card.model_validate(base.card.model_dump() | changes).save(folder / "adapter.json")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    return {
        name: made_run(root / name, section, seed)
        for seed, (name, section) in enumerate(SECTIONS.items())
    }


def outputs(model, image):
    with torch.inference_mode():
        embedding = model.encode(image)
    return (
        embedding.image,
        embedding.presence,
        model.prompt_encoder.automatic.weight.detach().clone(),
    )


def test_each_run_computes_what_it_computes_alone_in_any_order(runs: dict[str, Path]) -> None:
    image = torch.rand(1, 1, 256, 256, generator=torch.Generator().manual_seed(0))
    alone = {name: outputs(load_torch(folder)[0], image) for name, folder in runs.items()}
    together = load_adapters(runs)
    base = outputs(together.model, image)
    for name in ("serial", "lr", "serial"):
        for got, expected in zip(outputs(together.use(name), image), alone[name], strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)
        assert not torch.allclose(outputs(together.model, image)[0], base[0])
    for got, expected in zip(outputs(together.use(None), image), base, strict=True):
        assert torch.equal(got, expected)


def test_an_unknown_run_and_another_base_are_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run of this set"):
        load_adapters({"lr": runs["lr"]}).use("thyroid")
    stranger = made_run(tmp_path / "stranger", SECTIONS["lr"], 7, base_sha256="f" * 64)
    with pytest.raises(InputError, match="other bases"):
        load_adapters({**runs, "stranger": stranger})
