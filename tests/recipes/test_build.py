"""Bases and trainees: what is frozen, what is trained, what is saved, exact sizes."""

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from samling.adapters.bottleneck import LRAdapter, SerialAdapter
from samling.cache import weights_path
from samling.config import AdapterSection
from samling.errors import InputError
from samling.evaluation.metrics import dice
from samling.inference.card import Card
from samling.models.sam import Sam
from samling.models.weights import read_state, sha256_of_tensors
from samling.recipes.build import (
    AUTOMATIC_WEIGHTS,
    ENCODER_WEIGHTS,
    adapter_maker,
    load_base,
    load_torch,
    save_base,
    trainee,
)
from samling.recipes.identity import SHIPPED
from samling.recipes.load import load

AUTOMATIC = {
    "model.prompt_encoder.automatic.weight",
    "model.presence.linear.weight",
    "model.presence.linear.bias",
    "model.presence.evidence.weight",
    "model.presence.evidence.bias",
}
NESTED = ("block", "conv", "attention", "mlp")


@pytest.fixture(scope="module")
def _small() -> Sam:
    torch.manual_seed(11)
    model = Sam("light", 64).eval()
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 2)
    return model


@pytest.fixture
def small(_small: Sam) -> Sam:
    """A light model at 64 px of the test's own."""
    return copy.deepcopy(_small)


@pytest.fixture
def real_weights() -> Path:
    try:
        return weights_path("litemedsam")
    except InputError as error:
        pytest.skip(str(error))


@torch.no_grad()
def embedding(model: Sam) -> torch.Tensor:
    image = torch.rand((1, 1, 64, 64), generator=torch.Generator().manual_seed(1))
    return model.encode(image).image


def assert_same(state, wanted):
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[key], value) for key, value in wanted.items())


def test_the_untrained_base_is_always_the_same():
    torch.manual_seed(99)
    first = load_base("untrained")
    torch.manual_seed(98)
    second = load_base("untrained")
    assert first.sha256 == second.sha256 == sha256_of_tensors(second.model.state_dict())
    assert first.card.prompts == ()
    assert (first.card.input_size, first.card.embedding_size) == (256, 16)
    assert not first.model.training


def test_litemedsam_answers_boxes_alone_and_has_no_presence(real_weights):
    base = load_base("litemedsam")
    assert base.card.prompts == ("box",)
    assert base.card.embedding_size == 64
    assert base.model.presence is None
    assert base.sha256 == sha256_of_tensors(base.model.state_dict())
    torch.manual_seed(5)
    assert load_base("litemedsam").sha256 == base.sha256


def test_light_starts_from_litemedsam(real_weights):
    light, source = load_base("light"), load_base("litemedsam").model.state_dict()
    assert light.sha256 == load_base("light").sha256
    assert light.card.prompts == ()
    own = light.model.state_dict()
    same = [key for key in own if key in source and torch.equal(own[key], source[key])]
    assert set(own) - set(same) == {
        "image_encoder.patch_embed.0.c.weight", "image_encoder.patch_embed.2.c.weight",
        "prompt_encoder.automatic.weight", "presence.linear.weight", "presence.linear.bias",
            "presence.evidence.weight", "presence.evidence.bias",
        *(key for key in own if key.endswith("attention_biases")),  # other windows: resampled
    }  # fmt: skip


def test_weights_that_were_not_fetched_name_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("SAMLING_CACHE", str(tmp_path))
    for name in ("litemedsam", "light"):
        with pytest.raises(InputError, match="samling fetch litemedsam"):
            load_base(name)


@pytest.mark.parametrize("name", ["sam3", "runs/none", ""])
def test_unknown_bases_are_refused_with_the_known_ones(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for loader in (load_base, load_torch):
        with pytest.raises(
            InputError, match="one of base, base-tiny, base-zoom, litemedsam, or a checkpoint"
        ):
            loader(name)


def test_a_folder_around_runs_is_told_from_a_name(tiny_run, tmp_path):
    (tmp_path / "runs" / "notes").mkdir(parents=True)
    for loader in (load_base, load_torch):
        with pytest.raises(InputError, match="holds no run. Remedy: name a run's folder, .*base"):
            loader(str(tmp_path / "runs"))
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "config.yaml").write_text("training: {epochs: 3}\n")
    with pytest.raises(InputError, match="has no weights yet. Remedy: run"):
        load_torch(str(begun))
    shutil.copytree(tiny_run, tmp_path / "runs" / "mine")
    with pytest.raises(InputError, match=r"holds no run. Remedy: name one of .*runs/mine\.$"):
        load_torch(str(tmp_path / "runs"))


def test_the_base_that_looks_closer_has_the_same_weights():
    """A box is answered as by the base on a crop of three times the box: worked out by hand."""
    near, far = load("base-zoom"), load("base")
    picture = np.random.default_rng(0).integers(0, 255, (256, 256)).astype(np.uint8)
    picture[120:150, 100:140] = 20
    box = np.array([100.0, 120, 140, 150])
    assert near.card.name == "base-zoom"
    assert near.card.base_sha256 == far.card.base_sha256
    [mask], _ = near.predict(picture, boxes=box)
    crop, inner = picture[75:195, 60:180], box - [60, 75, 60, 75]  # 3 x 40 px about (120, 135)
    [wanted], _ = far.predict(crop, boxes=inner)
    np.testing.assert_array_equal(mask[75:195, 60:180], wanted)
    assert mask.sum() == wanted.sum() > 0


def test_the_tiny_base_has_an_encoder_of_its_own_before_the_bases_decoder(tmp_path):
    """Its file holds that alone; of another base its hash is not."""
    tiny, base = load_base("base-tiny"), load_base("base")
    assert (tiny.card.name, tiny.card.architecture) == ("base-tiny", "tiny")
    assert tiny.sha256 == load_base(SHIPPED["base-tiny"]).sha256 != base.sha256
    assert sum(p.numel() for p in tiny.model.image_encoder.parameters()) < 1.5e6
    for own, shared in (
        (tiny.model.mask_decoder, base.model.mask_decoder),
        (tiny.model.prompt_encoder.kinds, base.model.prompt_encoder.kinds),
    ):
        torch.testing.assert_close(own.state_dict(), shared.state_dict(), rtol=0, atol=0)
    own = read_state(SHIPPED["base-tiny"] / "base.safetensors")
    of_its_own = (*ENCODER_WEIGHTS, *AUTOMATIC_WEIGHTS)
    assert own and all(key.startswith(of_its_own) for key in own)
    moved = shutil.copytree(SHIPPED["base-tiny"], tmp_path / "tiny")
    with pytest.raises(InputError, match="was altered since it was made"):
        load_base(moved)  # the base is not beside it


@pytest.mark.parametrize("name", ["base", "base-tiny"])
def test_what_ships_outlines_what_a_box_holds(name):
    """A dark ellipse in speckle, which nobody has trained on."""
    rows, columns = np.mgrid[:300, :400]
    wanted = ((rows - 160) / 60) ** 2 + ((columns - 210) / 90) ** 2 < 1
    speckle = np.random.default_rng(1).gamma(4.0, 0.25, wanted.shape)
    picture = (np.where(wanted, 25, 120) * speckle).clip(0, 255).astype(np.uint8)
    [mask], _ = load(name).predict(picture, boxes=[[120, 100, 300, 220]])
    assert dice(mask, wanted) > 0.9
    [mask], _ = load(name).predict(picture, points=[[210, 160]])
    assert dice(mask, wanted) > 0.8


def test_what_ships_takes_at_most_25_megabytes():
    weights = SHIPPED["base"].rglob("*")
    assert sum(file.stat().st_size for file in weights if file.is_file()) <= 25e6


def test_a_saved_base_is_loaded_bit_for_bit(tmp_path):
    base = load_base("untrained")
    base.model.presence.linear.bias.data += 1
    save_base(tmp_path, base.model, base.card)
    again = load_base(tmp_path)
    assert again.sha256 == sha256_of_tensors(base.model.state_dict()) != base.card.base_sha256
    assert again.card.base == str(tmp_path)


@pytest.mark.parametrize(
    ("rank", "count"), [(4, 4464 * 4), (8, 4464 * 8), (16, 69_120), (32, 100_800)]
)
def test_sizes_of_recipes_with_the_rank_clamped_to_the_bottleneck(small, rank, count):
    """R is 8, 16, 20, 40. k = 16 exceeds it in stage 0 and k = 32 in stages 0 to 2.

    Unclamped, the paper's 4464 · k, they would have 71,424 and 142,848 weights of the same capacity.
    """
    injection = trainee(small, AdapterSection(rank=rank)).injection
    assert sum(p.numel() for p in injection.parameters()) == count
    widths = ((64, 2), (128, 2), (160, 6), (320, 2))
    assert count == sum(n * 2 * min(rank, d // 8) * (d + d // 8) for d, n in widths)


def test_the_recipe_of_the_serial_adapter_has_199680_weights(small):
    from samling.config import AdaptRecipe, load_recipe

    section = load_recipe(AdaptRecipe, "serial", []).adapter
    injection = trainee(small, section).injection
    assert sum(p.numel() for p in injection.parameters()) == 199_680


def test_the_maker_makes_what_the_recipe_says():
    lr = adapter_maker(AdapterSection(rank=32, reduction=4, tied=True))(64)
    assert isinstance(lr, LRAdapter)
    assert lr.tied
    assert lr.u_down.shape == (16, 16)
    serial = adapter_maker(AdapterSection(kind="serial", reduction=4))(64)
    assert isinstance(serial, SerialAdapter)
    assert serial.down.weight.shape == (16, 64)
    for kind in ("lr", "serial"):  # a bottleneck narrower than one channel is one channel
        narrow = adapter_maker(AdapterSection(kind=kind, reduction=1000))(64)
        assert sum(p.numel() for p in narrow.parameters()) == (130 if kind == "lr" else 128)


@pytest.mark.parametrize("kind", ["lr", "serial", "none"])
@pytest.mark.parametrize("decoder", [False, True])
@pytest.mark.parametrize("encoder", [False, True])
def test_what_is_trained_and_what_is_frozen(small, kind, decoder, encoder):
    before = [name for name, _ in small.named_parameters()]
    made = trainee(small, AdapterSection(kind=kind), train_decoder=decoder, train_encoder=encoder)
    state = made.state()
    prefixes = ["prompt_encoder.automatic.", "presence."]
    prefixes += ["mask_decoder.", "prompt_encoder."] * decoder + ["image_encoder."] * encoder
    own = {f"model.{name}" for name in before if name.startswith(tuple(prefixes))}
    assert {key for key in state if key.startswith("model.")} == own
    assert any(key.startswith("adapter.") for key in state) == (kind != "none")
    trained = {id(p) for p in made.parameters()}
    assert len(trained) == len(made.parameters()) == len(state)
    assert trained == {id(p) for p in small.parameters() if p.requires_grad}


@pytest.mark.parametrize("decoder", [True, "last", False])
def test_skips_are_trained_with_the_decoder(decoder):
    made = trainee(Sam("tiny", 64).eval(), AdapterSection(), train_decoder=decoder)
    assert any(key.startswith("model.skips.") for key in made.state()) is bool(decoder)


def test_folded_or_not_the_start_is_the_base(small):
    """Folding is for frozen encoders with adapters; whatever is saved whole keeps its norms."""
    expected, norm = embedding(small), "image_encoder.patch_embed.0.bn.weight"
    for section, encoder in (
        (AdapterSection(), True),
        (AdapterSection(kind="none"), False),
        (AdapterSection(kind="none"), True),
    ):
        whole = trainee(copy.deepcopy(small), section, train_encoder=encoder).model
        assert norm in whole.state_dict()
        assert torch.equal(embedding(whole), expected)
    folded = trainee(small, AdapterSection()).model
    assert norm not in folded.state_dict()
    torch.testing.assert_close(embedding(folded), expected, rtol=1e-3, atol=1e-3)


def test_the_same_seed_starts_with_the_same_adapter(small):
    states = [trainee(copy.deepcopy(small), AdapterSection(), seed=s).state() for s in (1, 1, 2)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])


@pytest.mark.parametrize("sites", [("conv", "mlp"), NESTED])
def test_trained_weights_are_saved_under_their_own_names_and_put_back(small, sites):
    """Also where adapters move the encoder's modules to another place."""
    other = copy.deepcopy(small)
    names = {f"model.{n}" for n, _ in small.named_parameters() if n.startswith("image_encoder.")}
    section = AdapterSection(sites=sites)
    made = trainee(small, section, train_encoder=True)
    for index, parameter in enumerate(made.parameters()):
        parameter.data += 0.001 * (index % 7 + 1)
    state = made.state()
    assert names < set(state)
    assert not any(".target" in key for key in state if key.startswith("model."))
    again = trainee(other, section, train_encoder=True, seed=5)
    again.load_state(state)
    assert torch.equal(embedding(other), embedding(small))
    assert_same(again.state(), state)


def test_state_is_a_copy(small):
    made = trainee(small, AdapterSection())
    before = made.state()
    kept = {key: value.clone() for key, value in before.items()}
    for parameter in made.parameters():
        parameter.data += 1
    assert all(torch.equal(before[key], kept[key]) for key in kept)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state.pop("model.presence.linear.bias"), "presence.linear.bias"),
        (lambda state: state.update(more=torch.zeros(1)), "more"),
        (
            lambda s: s.update({"model.presence.linear.bias": torch.zeros(2)}),
            "presence.linear.bias",
        ),
    ],
)
def test_loading_is_strict_and_changes_nothing(small, change, named):
    made = trainee(small, AdapterSection())
    before = made.state()
    state = {key: value + 1 for key, value in before.items()}
    change(state)
    with pytest.raises(InputError, match=named):
        made.load_state(state, "adapter.safetensors")
    assert_same(made.state(), before)


def test_a_run_beside_its_base_is_loaded_from_anywhere(tiny_run, tmp_path, monkeypatch):
    base = load_base("untrained")
    save_base(tmp_path / "base", base.model, base.card)
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    card = Card.read(run / "adapter.json").model_copy(update={"base": "../base"})
    card.save(run / "adapter.json")
    monkeypatch.chdir("/")
    assert load_torch(run)[1].base_sha256 == base.sha256
