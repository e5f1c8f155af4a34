"""A graph with two equal index tables and a matrix, before and after, on ONNX Runtime."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs samling[export]")

import onnxruntime as ort  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from samling.export.slim import slim  # noqa: E402

RNG = np.random.default_rng(0)
TABLE = RNG.integers(0, 64, (64, 64))
WEIGHTS = RNG.normal(size=(64, 64)).astype(np.float32)


def model(table=TABLE):
    nodes = [
        helper.make_node("Gather", ["x", "table_a"], ["a"], axis=0),
        helper.make_node("Gather", ["x", "table_b"], ["b"], axis=0),
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("MatMul", ["sum", "weights"], ["y"]),
    ]
    tables = [numpy_helper.from_array(table, f"table_{name}") for name in "ab"]
    weights = numpy_helper.from_array(WEIGHTS, "weights")
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [64, 64])],
        [*tables, weights],
    )
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()


def answer(content):
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.linspace(-1, 1, 64, dtype=np.float32)})[0]


def test_the_same_numbers_from_a_smaller_file():
    small = slim(model())
    assert np.array_equal(answer(model()), answer(small))
    # two tables of 8 bytes a number became one of 2; the matrix stayed
    assert len(model()) - len(small) > 64 * 64 * (2 * 8 - 2) - 500


def test_half_floats_round_weights_and_no_more():
    small = slim(model(), half=True)
    assert len(slim(model())) - len(small) > 64 * 64 * 2 - 200
    gathered = 2 * np.linspace(-1, 1, 64, dtype=np.float32)[TABLE]
    wanted = gathered @ WEIGHTS.astype(np.float16).astype(np.float32)
    assert np.allclose(answer(small), wanted, atol=1e-4)


def test_large_matrices_become_bytes_with_a_scale_for_each_column(monkeypatch):
    monkeypatch.setattr("samling.export.slim._LARGE_BYTES", 64 * 64 * 4)
    small = slim(model(), half=True)
    assert len(slim(model())) - len(small) > 64 * 64 * 3 - 700
    gathered = 2 * np.linspace(-1, 1, 64, dtype=np.float32)[TABLE]
    step = np.abs(WEIGHTS).max(axis=0) / 127
    bound = np.abs(gathered).sum(axis=1, keepdims=True) * step / 2
    assert (np.abs(answer(small) - gathered @ WEIGHTS) <= bound + 1e-4).all()


def test_numbers_that_do_not_fit_are_left_alone():
    table = TABLE.copy()
    table[0, 0] = -64  # fits
    assert np.array_equal(answer(model(table)), answer(slim(model(table))))
    weights = WEIGHTS.copy()
    weights[0, 0] = 7e4  # would be infinite in half precision
    huge = onnx.load_from_string(model())
    huge.graph.initializer[2].CopyFrom(numpy_helper.from_array(weights, "weights"))
    assert np.isfinite(answer(slim(huge.SerializeToString(), half=True))).all()
