"""NNCF's 8 bits against the same network in floats, both on OpenVINO."""

import re
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("nncf", reason="needs samling[quantise]")
onnx = pytest.importorskip("onnx", reason="needs samling[export]")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from samling.export.int8 import relative_error  # noqa: E402
from samling.export.openvino_int8 import convolutions, quantise  # noqa: E402
from samling.inference.openvino_graph import OpenVinoGraph  # noqa: E402

RNG = np.random.default_rng(0)
SQUARES = RNG.random((6, 32, 32), dtype=np.float32)


@pytest.fixture(scope="module")
def encoder():
    """Two convolutions with a GELU between them, (1, 1, 32, 32) -> (1, 8, 32, 32)."""
    first = RNG.normal(size=(16, 1, 3, 3)).astype(np.float32)
    second = RNG.normal(size=(8, 16, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "first"], ["a"], pads=[1, 1, 1, 1]),
            helper.make_node("Gelu", ["a"], ["b"]),
            helper.make_node("Conv", ["b", "second"], ["image_embeddings"], pads=[1, 1, 1, 1]),
        ],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 32, 32])],
        [helper.make_tensor_value_info("image_embeddings", TensorProto.FLOAT, [1, 8, 32, 32])],
        [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")],
    )
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()


def test_outputs_stay_and_weights_are_bytes(encoder, capsys):
    graph, weights = quantise(encoder, SQUARES)
    assert capsys.readouterr().out == ""
    assert re.search(rb'element_type="i8" shape="8, ?16, ?3, ?3"', graph)
    image = {"image": SQUARES[:1, None]}
    wanted = OpenVinoGraph(encoder, "float", 1, half=False).run(image)
    found = OpenVinoGraph(graph, "8 bits", 1, half=False, weights=weights).run(image)
    assert found.keys() == wanted.keys()
    error = relative_error([*wanted.values()], [*found.values()])
    assert 0 < error < 0.05


def test_convolutions_that_are_named_stay_in_floats(encoder):
    first, second = convolutions(encoder)
    wanted = OpenVinoGraph(encoder, "float", 1, half=False).run({"image": SQUARES[:1, None]})

    def error(in_float):
        graph, weights = quantise(encoder, SQUARES, in_float)
        eight = [
            re.search(rf'element_type="i8" shape="{shape}, ?3, ?3"'.encode(), graph) is not None
            for shape in ("16, ?1", "8, ?16")
        ]
        run = OpenVinoGraph(graph, "8 bits", 1, half=False, weights=weights).run
        found = run({"image": SQUARES[:1, None]})
        return eight, relative_error([*wanted.values()], [*found.values()])

    assert error([])[0] == [True, True]
    assert error([first])[0] == [False, True]
    assert error([second])[0] == [True, False]
    eight, left = error([first, second])
    assert eight == [False, False] and left < 1e-3


def test_nothing_is_told_to_anybody():
    """NNCF would report its use over the network; under pytest it never does, so in another process."""
    code = (
        "import openvino; from samling.export import openvino_int8\n"
        "with openvino_int8._quiet(): import nncf.telemetry.wrapper as wrapper\n"
        "print(type(wrapper.telemetry).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "MagicMock"
