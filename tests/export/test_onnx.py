import numpy as np
import pytest

from samling.errors import InputError
from samling.inference.onnx_backend import OnnxBackend, load_bundle
from samling.prompts.prompt import Prompt


@pytest.fixture(scope="module")
def exported(tiny_model, tiny_card, tmp_path_factory):
    from samling.export.onnx import export_onnx

    out = tmp_path_factory.mktemp("export") / "tiny"
    parity = export_onnx(tiny_model, tiny_card, out)
    return out, parity


@pytest.fixture
def both(exported, tiny_model, tiny_card):
    from samling.inference.segmenter import Segmenter
    from samling.inference.torch_backend import TorchBackend

    return Segmenter(TorchBackend(tiny_model), tiny_card), load_bundle(exported[0])


def test_the_bundle_holds_four_files_and_its_card(exported, tiny_card):
    out, parity = exported
    names = {path.name for path in out.iterdir()}
    assert names == {"encoder.onnx", "decoder.onnx", "card.json", "README.md"}
    assert load_bundle(out).card == tiny_card
    assert parity.least_iou == 1.0
    assert parity.masks >= 27
    assert parity.logit_difference < 1e-4
    assert [path.name for path in out.parent.iterdir()] == ["tiny"]


def test_the_model_card_says_what_a_reader_must_know(exported):
    text = (exported[0] / "README.md").read_text()
    for needed in ("Not a medical device", "Intended use", "Limits", "Apache-2.0", "lowest IoU"):
        assert needed in text


@pytest.mark.parametrize("objects", [1, 2, 5])
@pytest.mark.parametrize("tokens", [1, 2, 7])
@pytest.mark.parametrize("masked", [False, True])
def test_any_number_of_objects_and_tokens(both, objects, tokens, masked):
    rng = np.random.default_rng(objects * 10 + tokens)
    coords = (rng.random((objects, tokens, 2)) * 64).astype(np.float32)
    labels = rng.integers(-1, 4, (objects, tokens))
    masks = rng.normal(size=(objects, 64, 64)).astype(np.float32) if masked else None
    plane = rng.random((64, 64), dtype=np.float32)
    outputs = []
    for segmenter in both:
        encoding = segmenter.backend.encode(plane)
        outputs.append(
            (encoding.presence, *segmenter.backend.decode(encoding, coords, labels, masks))
        )
    for ours, theirs in zip(*outputs, strict=True):
        assert np.shape(ours) == np.shape(theirs)
        assert np.allclose(ours, theirs, atol=1e-4)


def test_threads_do_not_change_the_answer(exported):
    """Sums may be ordered differently: logits agree to 1e-4."""
    plane = np.random.default_rng(3).random((64, 64), dtype=np.float32)
    coords, labels = np.array([[[8, 8], [40, 40]]], dtype=np.float32), np.array([[2, 3]])
    found = []
    for threads in (1, 2, 5):
        backend = load_bundle(exported[0], threads=threads).backend
        found.append(backend.decode(backend.encode(plane), coords, labels)[0])
    assert max(np.abs(found[0] - other).max() for other in found[1:]) <= 1e-4


def test_objects_with_and_without_a_mask_share_a_call(exported, both):
    """SAM's convention: `has_mask_input` says it for each object."""
    import onnxruntime

    decoder = onnxruntime.InferenceSession((exported[0] / "decoder.onnx").read_bytes())
    assert [i.name for i in decoder.get_inputs()] == [
        "image_embeddings",
        "point_coords",
        "point_labels",
        "mask_input",
        "has_mask_input",
    ]
    assert {i.type for i in decoder.get_inputs()} == {"tensor(float)"}
    original = both[0].backend
    encoding = original.encode(np.random.default_rng(0).random((64, 64), dtype=np.float32))
    coords = np.full((2, 2, 2), 20, dtype=np.float32)
    labels = np.full((2, 2), 1)
    masks = np.random.default_rng(1).normal(size=(2, 64, 64)).astype(np.float32)
    low, _ = decoder.run(
        None,
        {
            "image_embeddings": encoding.embedding,
            "point_coords": coords,
            "point_labels": labels.astype(np.float32),
            "mask_input": masks[:, None],
            "has_mask_input": np.array([0, 1], dtype=np.float32),
        },
    )
    without, _ = original.decode(encoding, coords, labels)
    given, _ = original.decode(encoding, coords, labels, masks)
    assert np.allclose(low[0, 0], without[0], atol=1e-4)
    assert np.allclose(low[1, 0], given[1], atol=1e-4)


def test_a_user_gets_the_same_objects(both, image):
    prompts = [Prompt(box=np.array([5.0, 5, 40, 30])), Prompt()]
    ours, theirs = (segmenter.segment(image, prompts) for segmenter in both)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(one.mask, other.mask)
        assert one.score == pytest.approx(other.score, abs=1e-4)


def test_a_model_that_differs_is_not_kept(tiny_model, tiny_card, exported, tmp_path, monkeypatch):
    from samling.export import onnx as module

    parts = {"encoder": (exported[0] / "encoder.onnx").read_bytes()}
    parts["decoder"] = (exported[0] / "decoder.onnx").read_bytes()
    monkeypatch.setattr(module, "encoder_graph", lambda model, **_: parts["encoder"])
    monkeypatch.setattr(module, "_decoder", lambda model, card: parts["decoder"])
    bias = tiny_model.up.bias.data
    tiny_model.up.bias.data = bias + 0.5
    try:
        with pytest.raises(InputError, match="is not the same"):
            module.export_onnx(tiny_model, tiny_card, tmp_path / "out")
    finally:
        tiny_model.up.bias.data = bias
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_automatic_mode_is_exported_without_presence(tiny_model, tiny_card):
    from samling.export.onnx import make_bundle

    bundle, _ = make_bundle(tiny_model, tiny_card.model_copy(update={"prompts": ("box",)}))
    assert OnnxBackend(bundle).encode(np.zeros((64, 64), dtype=np.float32)).presence is None


def test_a_model_without_prompts_is_not_exported(tiny_model, tiny_card, tmp_path):
    from samling.export.onnx import export_onnx

    with pytest.raises(InputError, match="adapt it first"):
        export_onnx(tiny_model, tiny_card.model_copy(update={"prompts": ()}), tmp_path / "out")


@pytest.mark.slow
def test_a_model_with_skips_is_exported_with_every_prompt(tmp_path):
    torch = pytest.importorskip("torch", reason="needs samling[train]")
    pytest.importorskip("transformers", reason="needs samling[train]")
    from samling.export.onnx import export_onnx
    from samling.recipes.build import new_base

    base = new_base("tiny", warm=False)
    for conv in base.model.skips:
        torch.nn.init.normal_(conv.weight, std=0.3)  # zero at first: their way would not be seen
    card = base.card.model_copy(update={"prompts": ("box", "points", "automatic")})
    parity = export_onnx(base.model, card, tmp_path / "tiny.zip")
    assert parity.least_iou >= 0.999
    loaded = load_bundle(tmp_path / "tiny.zip")
    assert loaded.card.prompts == card.prompts
    encoding = loaded.encode(np.random.default_rng(0).random((90, 70))).encoding
    assert [skip.shape for skip in encoding.skips] == [(1, 32, 64, 64), (1, 64, 32, 32)]


@pytest.mark.parametrize("family", ["efficientsam-ti", "sam2-hiera-t"])
def test_vision_transformers_and_sam2_are_exported(family):
    """With random weights, at a small size; the gate inside compares masks on real images."""
    torch = pytest.importorskip("torch", reason="needs samling[train]")
    pytest.importorskip("onnxscript", reason="needs samling[export]")
    from samling.export.onnx import make_bundle
    from samling.inference.card import Card
    from samling.models.sam import Sam

    torch.manual_seed(0)
    card = Card(name=family, base="none", base_sha256="0" * 64, architecture=family, input_size=128,
                embedding_size=8, prompts=("box", "points"))  # fmt: skip
    _, parity = make_bundle(Sam(family, 128).eval(), card)
    assert parity.least_iou >= 0.999 and parity.logit_difference < 1e-3
