"""Graphs of three nodes, made by hand: what reaches ONNX Runtime and what comes back."""

import importlib.util
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from samling.errors import InputError
from samling.export.bundle import write_bundle
from samling.inference.bundle import Bundle
from samling.inference.onnx_backend import OnnxBackend, usable_threads
from samling.prompts.prompt import AUTOMATIC_TOKENS

onnx = pytest.importorskip("onnx", reason="needs samling[export]")

FLOAT = onnx.TensorProto.FLOAT
HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
RUNTIMES = [
    "onnxruntime",
    pytest.param(
        "openvino", marks=pytest.mark.skipif(not HAS_OPENVINO, reason="needs samling[openvino]")
    ),
]


def value(name, shape):
    return onnx.helper.make_tensor_value_info(name, FLOAT, shape)


def graph(nodes, inputs, outputs, initializers=()):
    made = onnx.helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    opset = [onnx.helper.make_opsetid("", 18)]
    return onnx.helper.make_model(made, opset_imports=opset, ir_version=9).SerializeToString()


def node(kind, inputs, outputs, **attributes):
    return onnx.helper.make_node(kind, inputs, outputs, **attributes)


@pytest.fixture
def bundle(make_card):
    """Encoder: the image itself, presence its maximum. Decoder: mask_input * has + sum of labels."""
    encoder = graph(
        [
            node("Identity", ["image"], ["image_embeddings"]),
            node("ReduceMax", ["image"], ["top"], keepdims=0),
            node("Reshape", ["top", "one"], ["presence"]),
        ],
        [value("image", [1, 1, 64, 64])],
        [value("image_embeddings", [1, 1, 64, 64]), value("presence", [1])],
        [onnx.numpy_helper.from_array(np.array([1], dtype=np.int64), "one")],
    )
    axes = [onnx.numpy_helper.from_array(np.array([1, 2, 3], dtype=np.int64), "axes")]
    axes.append(onnx.numpy_helper.from_array(np.array([1], dtype=np.int64), "last"))
    axes.append(onnx.numpy_helper.from_array(np.array([1, 2], dtype=np.int64), "both"))
    decoder = graph(
        [
            node("Unsqueeze", ["has_mask_input", "axes"], ["has"]),
            node("Mul", ["mask_input", "has"], ["kept"]),
            node("ReduceMean", ["image_embeddings"], ["mean"]),
            node("Add", ["kept", "mean"], ["low_res_masks"]),
            node("ReduceSum", ["point_labels", "last"], ["labels"]),
            node("ReduceSum", ["point_coords", "both"], ["xy"], keepdims=0),
            node("Unsqueeze", ["xy", "last"], ["column"]),
            node("Add", ["labels", "column"], ["iou_predictions"]),
        ],
        [
            value("image_embeddings", [1, 1, 64, 64]),
            value("point_coords", ["P", "N", 2]),
            value("point_labels", ["P", "N"]),
            value("mask_input", ["P", 1, 64, 64]),
            value("has_mask_input", ["P"]),
        ],
        [value("low_res_masks", ["P", 1, 64, 64]), value("iou_predictions", ["P", 1])],
        axes,
    )
    return Bundle(encoder, decoder, make_card())


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_arrays_reach_the_graphs_and_come_back(bundle, runtime):
    backend = OnnxBackend(bundle, runtime=runtime)
    exact = {"rtol": 0, "atol": 0 if runtime == "onnxruntime" else 2**-8}  # bfloat16 has 8 bits
    plane = np.random.default_rng(0).random((64, 64), dtype=np.float32)
    encoding = backend.encode(plane)
    assert np.allclose(encoding.embedding[0, 0], plane, **exact)
    assert encoding.presence == pytest.approx(plane.max(), abs=2**-8)
    coords = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    labels = np.array([[1, 0, -1], [2, 3, 1]])
    low, quality = backend.decode(encoding, coords, labels)
    assert low.shape == (2, 64, 64)
    mean = encoding.embedding.mean()
    assert np.allclose(low, mean, atol=1e-6)
    assert quality.tolist() == [15 + 0, 51 + 6]
    masks = np.random.default_rng(1).random((2, 64, 64), dtype=np.float32)
    low, _ = backend.decode(encoding, coords, labels, masks)
    assert np.allclose(low, masks + mean, atol=1e-6)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("tokens", [2, AUTOMATIC_TOKENS, 3])
def test_one_object_alone_is_as_among_others(bundle, runtime, tokens):
    """Shapes that are asked for often have compiled forms of their own."""
    backend = OnnxBackend(bundle, runtime=runtime)
    rng = np.random.default_rng(tokens)
    encoding = backend.encode(rng.random((64, 64), dtype=np.float32))
    coords = rng.integers(0, 64, (3, tokens, 2)).astype(np.float32)
    labels, masks = rng.integers(0, 4, (3, tokens)), rng.random((3, 64, 64), dtype=np.float32)
    for given in (None, masks):
        low, quality = backend.decode(encoding, coords, labels, given)
        for n in (2, 0):
            mask = None if given is None else given[n : n + 1]
            alone = backend.decode(encoding, coords[n : n + 1], labels[n : n + 1], mask)
            assert np.array_equal(alone[0], low[n : n + 1])
            assert np.array_equal(alone[1], quality[n : n + 1])


@pytest.mark.skipif(not HAS_OPENVINO, reason="needs samling[openvino]")
def test_calls_of_a_usual_kind_have_a_form_of_their_own(bundle):
    backend = OnnxBackend(bundle, runtime="openvino")
    compiled = backend._decoder._compiled
    encoding = backend.encode(np.ones((64, 64), np.float32))
    none = np.zeros((1, 64, 64), np.float32)
    seen = []
    for tokens, masks in ((2, None), (AUTOMATIC_TOKENS, None), (3, None), (2, none + 1)):
        labels = np.ones((1, tokens), np.int64)
        backend.decode(encoding, np.ones((1, tokens, 2), np.float32), labels, masks)
        seen.append(sorted(compiled, key=str))
    assert seen == [[0], [0, 1], [0, 1, None], [0, 1, None]]


@pytest.mark.skipif(not HAS_OPENVINO, reason="needs samling[openvino]")
def test_results_outlive_the_next_call_of_the_same_kind(bundle):
    backend = OnnxBackend(bundle, runtime="openvino")
    plane = np.random.default_rng(0).random((64, 64), dtype=np.float32)
    first, labels = backend.encode(plane), np.array([[2, 3]])
    kept = first.embedding.copy()
    low, _ = backend.decode(first, np.zeros((1, 2, 2), np.float32), labels)
    values = low.copy()
    backend.decode(backend.encode(1 - plane), np.ones((1, 2, 2), np.float32), labels)
    assert np.array_equal(first.embedding, kept) and np.array_equal(low, values)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_several_threads_may_call_one_backend_at_once(bundle, runtime):
    """Forms are compiled and buffers made as they are needed: every thread gets its own answer."""
    planes = np.random.default_rng(0).random((8, 64, 64), dtype=np.float32)

    def answer(backend, number):
        encoding = backend.encode(planes[number])
        coords = np.zeros((1, 2 + number % 2, 2), np.float32)
        labels = np.full(coords.shape[:2], number, np.int64)
        mask = planes[number][None] if number % 3 else None
        return (
            encoding.presence,
            encoding.embedding,
            *backend.decode(encoding, coords, labels, mask),
        )

    once = OnnxBackend(bundle, runtime=runtime)
    alone = [answer(once, number) for number in range(8)]
    shared, start = OnnxBackend(bundle, runtime=runtime), threading.Barrier(4)

    def work(first):
        start.wait(30)
        numbers = [*range(first, 8), *range(first)] * 5
        return [(number, answer(shared, number)) for number in numbers]

    with ThreadPoolExecutor(4) as pool:
        found = [one for part in pool.map(work, range(0, 8, 2)) for one in part]
    assert len(found) == 4 * 8 * 5
    for number, given in found:
        for ours, wanted in zip(given, alone[number], strict=True):
            assert np.array_equal(ours, wanted)


class Rounding:
    """A decoder whose answer depends on how many objects it is asked for, as that of bfloat16 does."""

    def run(self, inputs):
        count = len(inputs["point_labels"])
        low = inputs["point_coords"].sum((1, 2))[:, None, None, None] + 0.01 * count
        return {"low_res_masks": low, "iou_predictions": low[:, 0, 0]}


@pytest.mark.parametrize("with_masks", [False, True])
def test_rounding_never_depends_on_the_other_objects(bundle, with_masks):
    backend = OnnxBackend(bundle)
    backend._decoder, backend._one_by_one = Rounding(), True
    encoding = backend.encode(np.ones((64, 64), np.float32))
    coords = np.arange(18, dtype=np.float32).reshape(3, 3, 2)
    labels, masks = np.ones((3, 3), np.int64), np.ones((3, 64, 64), np.float32)
    low, quality = backend.decode(encoding, coords, labels, masks if with_masks else None)
    one = backend.decode(encoding, coords[1:2], labels[1:2], masks[1:2] if with_masks else None)
    assert low.shape == (3, 1, 1) and quality.shape == (3,)
    assert np.array_equal(one[0], low[1:2])


@pytest.mark.skipif(not HAS_OPENVINO, reason="needs samling[openvino]")
def test_only_a_rounding_decoder_takes_objects_one_by_one(bundle):
    assert not OnnxBackend(bundle, runtime="openvino")._one_by_one
    assert not OnnxBackend(bundle)._one_by_one


def test_predicting_with_a_bundle_never_imports_pytorch(bundle, tmp_path):
    """What a cart does: load, encode, first mask. In a process of its own."""
    write_bundle(bundle, "card", tmp_path / "bundle")
    code = (
        "import sys, numpy, samling; model = samling.load(sys.argv[1]); "
        "masks, _ = model.predict(numpy.eye(64), boxes=[[8, 8, 40, 40]]); "
        "assert masks.shape == (1, 64, 64); "
        "print([m for m in ('torch', 'transformers', 'onnx') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "bundle")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_eight_bits_are_for_onnx_runtime_alone(bundle):
    card = bundle.card.model_copy(update={"precision": "int8"})
    with pytest.raises(InputError, match="use --runtime onnxruntime"):
        OnnxBackend(bundle._replace(card=card), runtime="openvino")


def test_what_is_no_bundle_graph_is_refused(bundle):
    with pytest.raises(InputError, match=r"encoder\.onnx: is not a usable ONNX model"):
        OnnxBackend(bundle._replace(encoder=b"not onnx"), "here")
    with pytest.raises(InputError, match="has the inputs"):
        OnnxBackend(bundle._replace(decoder=bundle.encoder))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_weights_outside_the_file_are_refused(bundle, tmp_path, monkeypatch, runtime):
    """A graph may name another file as its weights: that would read whatever the bundle asks for."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(bytes(4 * 64 * 64))
    stolen = onnx.TensorProto(name="w", data_type=FLOAT, dims=[1, 1, 64, 64])
    stolen.data_location = onnx.TensorProto.EXTERNAL
    for location in ("secret", str(tmp_path / "secret"), "../" + tmp_path.name + "/secret"):
        del stolen.external_data[:]
        stolen.external_data.add(key="location", value=location)
        model = graph(
            [node("Add", ["image", "w"], ["image_embeddings"])],
            [value("image", [1, 1, 64, 64])],
            [value("image_embeddings", [1, 1, 64, 64])],
            [stolen],
        )
        with pytest.raises(InputError):
            OnnxBackend(bundle._replace(encoder=model), runtime=runtime)


def test_threads_follow_the_user_and_never_exceed_eight(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert usable_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert 1 <= usable_threads() <= 8
