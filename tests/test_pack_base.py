"""scripts/pack_base.py: what ships is the mean of what was trained, and of nothing else."""

import json
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

import pytest

from samling.errors import InputError
from samling.inference.card import Card
from samling.inference.expectation import Calibration

torch = pytest.importorskip("torch")
pytest.importorskip("h5py")
SCRIPTS = Path(__file__).parents[1] / "scripts"
START = "0" * 64
CALIBRATION = Calibration(level=0.9, temperature=1.0, store="s", split_hash="h", curves={})


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield import_module("pack_base")
    for name in ("pack_base", "lg_medseg_table"):
        sys.modules.pop(name, None)


@pytest.fixture
def mean_of(script):
    return script.mean_of


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
    folder: Path,
    value: float,
    kind: str = "adapter",
    names: Iterable[str] = "wb",
    epochs: int = 2,
    size: int = 3,
    **changes,
) -> Path:
    """A base, or a run of two epochs, whose tensors all hold a value."""
    folder.mkdir()
    card(**changes).save(folder / f"{kind}.json")
    prefix = "model." if kind == "adapter" else ""
    from safetensors.torch import save_file

    tensors = {prefix + name: torch.full((size,), value) for name in names}
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


@pytest.mark.parametrize(("names", "size"), [("wb", 3), ("wbf", 4)])
def test_parts_of_other_architectures_are_refused(mean_of, tmp_path, names, size):
    start = run(tmp_path / "start", 1.0, "base", "wbf")
    other = run(tmp_path / "other", 1.0, "base", names, size=size)
    for order in ([start, other], [other, start]):
        with pytest.raises(InputError, match="has other weights than"):
            mean_of(order, ("a", "b"))


def test_a_run_whose_epochs_are_not_known_is_refused(mean_of, tmp_path):
    run(tmp_path / "start", 1.0, "base", "wbf")
    unknown = run(tmp_path / "unknown", 1.0)
    (unknown / "metrics.jsonl").unlink()
    with pytest.raises(InputError, match="unknown: has 0 of"):
        mean_of([unknown], ("a", "b"))


def test_a_mean_of_means_names_all_its_parts(script, tmp_path):
    for name, parts in (("packed", '["start", "half", "run", "run"]'), ("half", '["start", "x"]')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "parts.json").write_text(parts)
    assert script.means_of(tmp_path, "packed") == {
        "packed": ["start", "half", "run", "run"],
        "half": ["start", "x"],
    }
    assert script.means_of(tmp_path, "run") == {}
    card(base_sha256="1" * 64).save(tmp_path / "half" / "base.json")
    run(tmp_path / "later", 1.0, base_sha256="1" * 64)
    assert script.means_of(tmp_path, "later") == {"half": ["start", "x"]}  # what it began with


@pytest.fixture
def distilled(tiny_store, tmp_path):
    """OUT with a base as distilled on one set, and a run on what is packed of it."""
    (tmp_path / "stores").mkdir()
    (tmp_path / "stores" / "nerve_usgra.h5").symlink_to(tiny_store)
    base = run(tmp_path / "base", 1.0, "base", trained_on=("nerve_usgra",), calibration=CALIBRATION)
    (base / "config.yaml").write_text("name: base\n")
    (base / "environment.json").write_text('{"python": "3", "stores": ["private/x.h5"]}')
    return tmp_path


def test_what_is_packed_is_16_bit_unfitted_and_knows_its_images(script, distilled, tiny_store):
    from safetensors.torch import load_file

    from samling.data.store import Store

    script.pack(distilled, "start", [])
    start = Card.read(distilled / "start" / "base.json")
    changes = {"base_sha256": start.base_sha256, "trained_on": ("nerve_usgra",)}
    run(distilled / "boxes", 2.0, mask_threshold=1.0, **changes)
    script.pack(distilled, "packed", ["start", "boxes", "boxes"])
    weights = load_file(distilled / "packed" / "base.safetensors")
    assert {str(weight.dtype) for weight in weights.values()} == {"torch.float16"}
    assert values(weights) == pytest.approx({"w": 5 / 3, "b": 5 / 3}, abs=1e-3)
    packed = Card.read(distilled / "packed" / "base.json")
    assert packed.base_sha256 == script.sha256_of_tensors(weights) != start.base_sha256
    assert packed.calibration is None and packed.mask_threshold == pytest.approx(2 / 3)
    assert "nerve_usgra: CC BY 4.0" in packed.licence
    images = len(Store.open(tiny_store).splits.train.ids)
    assert len(script.np.load(distilled / "packed" / "seen.npy")) == images


def test_what_ships_says_of_what_it_was_made_and_was_measured(
    script, distilled, tmp_path, monkeypatch
):
    script.pack(distilled, "start", [])
    script.pack(distilled, "packed", ["start"])
    monkeypatch.setattr(script, "TARGET", tmp_path / "weights")
    (tmp_path / "weights").mkdir()
    with pytest.raises(InputError, match="holds no results"):
        script.ship(distilled)
    result = distilled / "val" / "base" / "nerve_usgra" / "results.json"
    result.parent.mkdir(parents=True)
    result.write_text('{"model": {"base_sha256": "other"}}')
    with pytest.raises(InputError, match="is of other weights than OUT/packed"):
        script.ship(distilled)
    assert not list((tmp_path / "weights").iterdir())
    sha = Card.read(distilled / "packed" / "base.json").base_sha256
    box = {"method": "base", "protocol": "box", "dice": {"mean": 0.9}}
    scores = {"method": "base", "scores": [box, box | {"protocol": "auto", "dice": None}]}
    result.write_text(json.dumps({"model": {"base_sha256": sha}} | scores))
    (distilled / "base" / "config.yaml").rename(tmp_path / "away.yaml")
    with pytest.raises(FileNotFoundError):
        script.ship(distilled)
    assert not list((tmp_path / "weights").iterdir())  # no weights without what they were made of
    (tmp_path / "away.yaml").rename(distilled / "base" / "config.yaml")
    script.ship(distilled)
    about = json.loads((tmp_path / "weights" / "about.json").read_text())
    assert about["means"] == {"packed": ["start"]} and about["runs"] == {}
    assert about["environment"] == {"python": "3"}  # where the stores lay is nobody's business
    assert about["validation_dice"] == {"nerve_usgra": {"box": {"mean": 0.9}}}
    assert Card.read(tmp_path / "weights" / "base.json").base_sha256 == sha


def test_of_a_tiny_base_ships_what_the_base_lacks(script, tmp_path):
    from safetensors.torch import save_file

    shared = {
        "image_encoder.a": torch.zeros(2),
        "image_encoder.b": torch.ones(3),
        "mask_decoder.a": torch.ones(4),
        "presence.a": torch.ones(1),
    }
    save_file(shared, tmp_path / "base.safetensors")
    script.TARGET = tmp_path
    same = {key: shared[key].clone() for key in ("image_encoder.a", "mask_decoder.a")}
    state = same | {"image_encoder.b": torch.ones(2), "presence.a": torch.zeros(1)}
    own = script.own_weights(state, tmp_path)
    assert own.keys() == {"image_encoder.a", "image_encoder.b", "presence.a"}
    state["mask_decoder.a"][2] = 0
    with pytest.raises(InputError, match="has another decoder than the base that ships"):
        script.own_weights(state, tmp_path)


def test_the_tiny_base_ships_into_a_folder_of_its_own(script, distilled, tmp_path, monkeypatch):
    from safetensors.torch import load_file

    weights = tmp_path / "weights"
    weights.mkdir()
    monkeypatch.setattr(script, "TARGET", weights)
    script.pack(distilled, "packed", [])
    sha = Card.read(distilled / "packed" / "base.json").base_sha256
    result = distilled / "val" / "base" / "nerve_usgra" / "results.json"
    result.parent.mkdir(parents=True)
    result.write_text(json.dumps({"model": {"base_sha256": sha}, "method": "base", "scores": []}))
    script.ship(distilled)
    before = {path.name: path.read_bytes() for path in weights.iterdir()}
    assert load_file(weights / "base.safetensors").keys() == {"w", "b"}
    script.ship(distilled, "tiny")
    with pytest.raises(InputError, match="'tin' is unknown"):
        script.ship(distilled, "tin")
    told = json.loads((weights / "tiny" / "about.json").read_text())
    assert told["with_the_decoder_of"] == Card.read(weights / "base.json").base_sha256
    tiny = Card.read(weights / "tiny" / "base.json")
    assert (tiny.name, tiny.base_sha256) == ("base-tiny", sha)
    assert load_file(weights / "tiny" / "base.safetensors") == {}  # it is the base to the bit
    assert all((weights / name).read_bytes() == content for name, content in before.items())
