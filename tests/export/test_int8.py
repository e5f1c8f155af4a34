"""An encoder of two convolutions: one on plain pixels, one on pixels with a spike, clipped after it."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs samling[export]")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from samling.export.int8 import quantiser, relative_error  # noqa: E402

RNG = np.random.default_rng(0)
SQUARES = RNG.random((4, 16, 16), dtype=np.float32)


@pytest.fixture(scope="module")
def encoder():
    spike = np.ones((1, 1, 16, 16), dtype=np.float32)
    spike[..., 3, 3] = 1000
    # clipped afterwards: the spike takes the range of 8 bits, and leaves nothing to the others
    constants = {
        "weights": RNG.normal(size=(8, 1, 1, 1)).astype(np.float32),
        "spike": spike,
        "low": np.float32(-1),
        "high": np.float32(1),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "weights"], ["image_embeddings"], name="plain"),
            helper.make_node("Mul", ["image", "spike"], ["spiked"], name="mul"),
            helper.make_node("Conv", ["spiked", "weights"], ["wide"], name="spiky"),
            helper.make_node("Clip", ["wide", "low", "high"], ["high_res_feats_0"], name="clip"),
        ],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 16, 16])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8, 16, 16])
            for name in ("image_embeddings", "high_res_feats_0")
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()


def test_the_layer_that_loses_is_found(encoder):
    with quantiser(encoder, SQUARES) as maker:
        assert maker.layers == ("plain", "spiky")
        errors = maker.sensitivity(SQUARES[:2])
        assert list(errors) == ["spiky", "plain"]
        assert errors["plain"] < 0.02 < 0.2 < errors["spiky"]


def test_only_the_named_layers_change(encoder):
    with quantiser(encoder, SQUARES) as maker:
        assert maker.quantise([]) == encoder
        nodes = onnx.load_from_string(maker.quantise(["plain"])).graph.node
    producers = {output: node for node in nodes for output in node.output}
    inputs = {n.name: producers.get(n.input[0]) for n in nodes if n.op_type == "Conv"}
    assert inputs["plain"].op_type == "DequantizeLinear"
    assert inputs["spiky"].op_type == "Mul"


def test_relative_error_is_that_of_the_worst_output():
    wanted = [np.array([3.0, 4.0]), np.array([1.0, 0.0])]
    assert relative_error(wanted, [np.array([3.0, 4.5]), np.array([1.0, 0.3])]) == pytest.approx(
        0.3
    )
