import numpy as np
import pytest

from samling.errors import InputError
from samling.recipes.export import export


def test_wrong_use_is_refused_before_any_work(tmp_path):
    with pytest.raises(InputError, match="'coreml' is not offered"):
        export("untrained", tmp_path / "out", "coreml")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "encoder.onnx").write_bytes(b"x")
    with pytest.raises(InputError, match="is a bundle already"):
        export(str(tmp_path / "bundle"), tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        export("untrained", tmp_path / "mine")


def test_eight_bits_need_stores_and_floats_take_none(tmp_path):
    some = [tmp_path / "a.h5"]
    for format in ("onnx-int8", "openvino-int8"):
        with pytest.raises(InputError, match=f"^--format {format}: .* add --data STORE.h5"):
            export("base", tmp_path / "out", format)
    with pytest.raises(InputError, match=r"^--data .*a\.h5: .*--format onnx-int8 or openvino-int8"):
        export("base", tmp_path / "out", "onnx", some)


@pytest.mark.parametrize("eight", [False, True])
def test_it_says_what_it_does_how_alike_the_masks_are_and_what_8_bits_cost(
    tmp_path, monkeypatch, eight
):
    pytest.importorskip("onnx", reason="needs samling[export]")
    from samling.export.parity import Parity
    from samling.inference.bundle import Bundle
    from samling.inference.card import Card
    from samling.inference.expectation import Calibration
    from samling.recipes import export as module
    from samling.recipes import export_int8

    sure = Calibration(level=0.9, temperature=1.0, store="s", split_hash="h", curves={})
    card = Card(name="m", base="b", base_sha256="0" * 64, embedding_size=16, prompts=("box",))
    card = card.model_copy(update={"calibration": sure})
    made = Bundle(b"encoder", b"decoder", card)
    monkeypatch.setattr(module, "_in_floats", lambda _: (made, Parity(30, 0.99987, 1e-4, 0.0)))

    def in_eight_bits(bundle, stores, most_drop, report, runtime):
        assert (stores, most_drop, runtime) == ([tmp_path / "s.h5"], 0.5, "onnxruntime")
        report("60 of 65 layers")
        unknown = card.model_copy(update={"calibration": None})
        return Bundle(b"encoder", b"decoder", unknown), "60 of 65 layers in 8 bits"

    monkeypatch.setattr(export_int8, "in_eight_bits", in_eight_bits)
    said = []
    how = ("onnx-int8", [tmp_path / "s.h5"]) if eight else ("onnx", ())
    out = export("runs/mine", tmp_path / "out", *how, report=said.append)
    assert said[:2] == [
        "writing runs/mine as ONNX and comparing its masks with PyTorch's",
        "30 masks agree to an IoU of 0.9999 or more",
    ]
    assert said[2:3] == ["60 of 65 layers"] * eight
    again = f"samling calibrate {out} --data {tmp_path / 's.h5'}"
    assert [again in line for line in said[3:]] == [True] * eight
    text = "".join(path.read_text() for path in out.glob("*.md"))
    assert ("60 of 65 layers in 8 bits" if eight else "32-bit floats") in text
    assert "not finished" not in text
    run = tmp_path / "mine"
    run.mkdir()
    (run / "config.yaml").write_text("training: {epochs: 4}\n")
    (run / "metrics.jsonl").write_text('{"epoch": 1}\n')
    out = export(str(run), tmp_path / "early", *how, report=said.append)
    (limit,) = [line for line in said if "mine (1 of 4 epochs) is not finished" in line]
    assert f"- {limit}\n" in "".join(path.read_text() for path in out.glob("*.md"))


def test_eight_bits_are_refused_if_they_cost_too_much(tmp_path, tiny_store, monkeypatch):
    """A drop of less than -100 points is impossible: every form is tried and refused."""
    from samling.export import int8
    from samling.export.onnx import make_bundle
    from samling.recipes import export_int8
    from samling.recipes.build import load_torch

    pytest.importorskip("onnxscript", reason="needs samling[export]")
    for name, value in (
        ("CALIBRATION_IMAGES", 2), ("VALIDATION_IMAGES", 2), ("LIMITS", (1e9,)), ("PROBES", 1)
    ):  # fmt: skip
        monkeypatch.setattr(export_int8, name, value)
    monkeypatch.setattr(
        int8.Quantiser, "sensitivity", lambda self, _: dict.fromkeys(self.layers, 0.0)
    )
    bundle, _ = make_bundle(*load_torch("base"))
    with pytest.raises(InputError, match="costs more than -101 points of Dice"):
        export_int8.in_eight_bits(bundle, [tiny_store], -101.0, print)
    small, cost = export_int8.in_eight_bits(bundle, [tiny_store], 101.0, print)
    assert small.card.precision == "int8"
    assert len(small.encoder) + len(small.decoder) < 14e6
    assert "65 of 65 layers" in cost


def test_eight_bits_for_openvino_keep_the_masks(tmp_path, tiny_store, monkeypatch):
    """The whole way: a bundle on disk that loads on OpenVINO by itself and answers as the model does."""
    pytest.importorskip("nncf", reason="needs samling[quantise]")
    from samling.evaluation.metrics import dice
    from samling.recipes import export_int8
    from samling.recipes.load import load

    for name in ("CALIBRATION_IMAGES", "VALIDATION_IMAGES"):
        monkeypatch.setattr(export_int8, name, 2)
    out = export("base", tmp_path / "b.zip", "openvino-int8", [tiny_store], 101.0)
    assert out.stat().st_size < 14e6
    y, x = np.indices((200, 240))
    picture = np.where((x - 120) ** 2 + (y - 90) ** 2 < 50**2, 40, 120).astype(np.uint8)
    box = [70, 40, 171, 141]
    small, _ = load(out).predict(picture, boxes=box)
    full, _ = load("base").predict(picture, boxes=box)
    assert dice(full[0], small[0]) > 0.97
    with pytest.raises(InputError, match="use --runtime openvino"):
        load(out, "onnxruntime")


def test_openvino_keeps_first_convolutions_in_floats_where_dice_asks_for_it(
    tiny_store, monkeypatch
):
    from samling.export import openvino_int8
    from samling.inference.bundle import Bundle
    from samling.recipes import export_int8
    from samling.recipes.build import load_base

    bundle = Bundle(b"", b"", load_base("base").card)
    monkeypatch.setattr(export_int8, "slim", lambda graph, **_: graph)
    dice = iter([0.90, 0.80, 0.897])  # in floats, all in 8 bits, all but the stem
    monkeypatch.setattr(export_int8, "_scores", lambda *_: {"auto": next(dice)})
    monkeypatch.setattr(openvino_int8, "convolutions", lambda _: ["stem 1", "stem 2", "block 1"])
    tried = []

    def quantise(_, __, in_float):
        tried.append(in_float)
        return b"graph", b"weights"

    monkeypatch.setattr(openvino_int8, "quantise", quantise)
    small, cost = export_int8.in_eight_bits(bundle, [tiny_store], 0.5, print, "openvino")
    assert small.weights == b"weights" and tried == [[], ["stem 1", "stem 2"]]
    assert "but for its first 2 convolutions" in cost and "auto -0.30" in cost


def _store(path, train, val):
    """A store of flat pictures; `val` tells for each case whether it is labelled."""
    from samling.data.case import Case
    from samling.data.splits import Splits
    from samling.data.store import write_store

    image, blank = np.full((32, 32), 9, np.float32), np.zeros((32, 32), np.uint8)
    learnt = [Case(f"t{n}", image, blank) for n in range(train)]
    held = [Case(f"v{n}", image, blank if known else None) for n, known in enumerate(val)]
    parts = {"train": [c.id for c in learnt], "val": [c.id for c in held], "test": []}
    splits = Splits.of(parts, "by hand")
    write_store(path, [*learnt, *held], splits, name="s", classes=("lesion",), licence="CC0")
    return path


@pytest.mark.parametrize(
    ("train", "val", "window", "said"),
    [
        (0, [True], None, "with training images"),
        (2, [], None, "with labelled validation images"),
        (2, [False, False], None, "with labelled validation images"),
        (2, [True, False], None, "show an object"),
        (2, [True], (40, 400), "'t0' has none"),
    ],
)
def test_eight_bits_need_images_to_measure_with(tmp_path, monkeypatch, train, val, window, said):
    pytest.importorskip("onnx", reason="needs samling[export]")
    from samling.inference.backend import Encoding
    from samling.inference.bundle import Bundle
    from samling.inference.card import Card
    from samling.recipes import export_int8

    class Silent:
        def __init__(self, bundle):
            self.encode = lambda plane: Encoding(plane[None, None], 3.0)

    monkeypatch.setattr(export_int8, "OnnxBackend", Silent)
    card = Card(
        name="boxes", base="none", base_sha256="0" * 64, input_size=64, embedding_size=16,
        prompts=("box",), window_hu=window,
    )  # fmt: skip
    path = _store(tmp_path / "s.h5", train, val)
    with pytest.raises(InputError, match=said):
        export_int8.in_eight_bits(Bundle(b"", b"", card), [path], 1.0, print)


def test_a_base_without_prompts_must_be_adapted_first(tmp_path):
    pytest.importorskip("transformers", reason="needs samling[train]")
    with pytest.raises(InputError, match="adapt it first"):
        export("untrained", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_low_rank_updates_are_merged_before_anything_is_written(tmp_path, monkeypatch):
    """The bundle of a LoRA run costs what its base costs, and computes what the run computes."""
    torch = pytest.importorskip("torch")
    from samling.adapters.injection import save_adapter
    from samling.config import AdapterSection
    from samling.export import onnx
    from samling.recipes.build import load_base, load_torch, trainee

    base = load_base("untrained")
    names = list(base.model.state_dict())
    section = AdapterSection(kind="lora", sites=("block",), rank=2)
    run = trainee(base.model, section)
    state = {key: value + 0.05 * torch.randn(value.shape) for key, value in run.state().items()}
    save_adapter(tmp_path / "adapter.safetensors", state)
    settings = section.model_dump(mode="json") | {"train_decoder": False, "train_encoder": False}
    changes = {"adapter": settings, "prompts": ("box",)}
    base.card.model_copy(update=changes).save(tmp_path / "adapter.json")
    written = []

    def make_bundle(model, card):
        written.append(model)
        raise InputError("here", "ends the test", "and saves a minute")

    monkeypatch.setattr(onnx, "make_bundle", make_bundle)
    with pytest.raises(InputError, match="ends the test"):
        export(str(tmp_path), tmp_path / "out")
    [model] = written
    image = torch.rand(1, 1, 256, 256)
    with torch.no_grad():
        wanted = load_torch(tmp_path)[0].encode(image).image
        torch.testing.assert_close(model.encode(image).image, wanted, atol=1e-3, rtol=1e-3)
    assert len(model.state_dict()) < len(names)  # no factors, and folded norms
    assert set(model.state_dict()).isdisjoint(
        k for k in load_torch(tmp_path)[0].state_dict() if "lora" in k
    )
