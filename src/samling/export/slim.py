"""slim: the same graph in a smaller file: equal tables once, narrow integers, on request half floats."""

from collections import Counter

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

_WORTH_BYTES = 1024
_LARGE_BYTES = 1 << 20
_EXACT = ("QuantizeLinear", "DequantizeLinear")
"""Their scales stay as they are: kernels are chosen by looking at them."""


def slim(model: bytes, *, half: bool = False) -> bytes:
    """Shrink an ONNX model. Runtimes undo it once, when they load the file.

    Attention looks its biases up in index tables of 64 bits, one per block and all alike: here they
    become one table of 16 bits.

    Args:
        half: store float32 weights as float16, which rounds them by up to 2^-11, and matrices of a
            mebibyte and more as bytes with a scale for each column.
    """
    proto = onnx.load_from_string(model)
    _merge_equal(proto)
    graph = proto.graph
    exact = {name for node in graph.node if node.op_type in _EXACT for name in node.input}
    widened: list[NodeProto] = []
    scales: list[TensorProto] = []
    for tensor in graph.initializer:
        narrow = None if tensor.name in exact else _narrowed(tensor, half=half)
        if narrow is not None:
            widened += _widen(tensor, narrow, scales)
            tensor.CopyFrom(numpy_helper.from_array(narrow, f"{tensor.name}_stored"))
    graph.initializer.extend(scales)
    nodes = [*widened, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]  # says of the tables what is no longer true, and nobody needs it
    return proto.SerializeToString()


def _merge_equal(proto: ModelProto) -> None:
    kept: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    renamed: dict[str, str] = {}
    tensors = list(proto.graph.initializer)
    for tensor in tensors:
        if len(tensor.raw_data) >= _WORTH_BYTES:
            key = (tensor.data_type, tuple(tensor.dims), tensor.raw_data)
            renamed[tensor.name] = kept.setdefault(key, tensor.name)
    used = Counter(renamed.get(name, name) for node in proto.graph.node for name in node.input)
    for node in proto.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(tensor for tensor in tensors if used[tensor.name])


def _narrowed(tensor: TensorProto, *, half: bool) -> NDArray[np.generic] | None:
    """The values in 16 or 8 bits; None if that is not wanted, changes integers, or saves nothing."""
    if len(tensor.raw_data) < _WORTH_BYTES:
        return None
    values = numpy_helper.to_array(tensor)
    if tensor.data_type == TensorProto.INT64:
        limits = np.iinfo(np.int16)
        fits = values.min() >= limits.min and values.max() <= limits.max
        return values.astype(np.int16) if fits else None
    if not half or tensor.data_type != TensorProto.FLOAT:
        return None
    if values.ndim == 2 and values.nbytes >= _LARGE_BYTES:
        return np.rint(values / _column_scale(values)).astype(np.int8)
    return values.astype(np.float16) if np.abs(values).max() < 6e4 else None


def _widen(
    tensor: TensorProto, narrow: NDArray[np.generic], scales: list[TensorProto]
) -> list[NodeProto]:
    """Nodes that give a stored tensor its type and name back; bytes need a scale beside them."""
    name, stored, kind = tensor.name, f"{tensor.name}_stored", tensor.data_type
    if narrow.dtype != np.int8:
        return [helper.make_node("Cast", [stored], [name], to=kind)]
    scales.append(
        numpy_helper.from_array(_column_scale(numpy_helper.to_array(tensor)), f"{name}_scale")
    )
    return [
        helper.make_node("Cast", [stored], [f"{name}_bytes"], to=kind),
        helper.make_node("Mul", [f"{name}_bytes", f"{name}_scale"], [name]),
    ]


def _column_scale(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(1, N) step of every column of a matrix in bytes."""
    return np.maximum(np.abs(values).max(axis=0, keepdims=True), 1e-12) / np.float32(127)
