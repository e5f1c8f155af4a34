"""int8: an encoder's convolutions and matrix products in 8 bits; those that lose most stay in float.

Static quantisation by ONNX Runtime's own tools (QDQ form, weights scaled per channel), so that its integer
kernels take the result. Ranges of activations are seen on calibration images.
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from samling.inference.onnx_backend import session_options, usable_threads

KINDS = ("Conv", "MatMul", "Gemm")
FloatArray = NDArray[np.float32]


class Quantiser:
    """Makes 8-bit forms of one encoder, with any of its layers left in float.

    Args:
        encoder: ONNX, one input `image` (1, 1 | 3, S, S).
        squares: (N, S, S) or (N, 3, S, S) calibration images in [0, 1], as the model sees them.
        folder: for temporary files.
    """

    def __init__(self, encoder: bytes, squares: FloatArray, folder: Path) -> None:
        self.encoder, self.squares, self._folder = encoder, squares, folder
        self._float = folder / "float.onnx"
        self._float.write_bytes(encoder)
        graph = onnx.load_from_string(encoder).graph
        weights = {tensor.name for tensor in graph.initializer}
        self.layers = tuple(
            node.name for node in graph.node if node.op_type in KINDS and node.input[1] in weights
        )
        """Names of the nodes with weights, in the order of the graph."""

    def quantise(self, layers: Sequence[str]) -> bytes:
        """The encoder with these layers in 8 bits. The first call sees all calibration images."""
        if not layers:
            return self.encoder
        out = self._folder / "int8.onnx"
        with _quiet():
            quantize_static(
                self._float,
                out,
                _Reader(self.squares),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=list(KINDS),
                nodes_to_quantize=list(layers),
                extra_options={"MatMulConstBOnly": True},
                calibration_cache_path=self._folder / "ranges.json",
            )
        return out.read_bytes()

    def sensitivity(self, probes: FloatArray) -> dict[str, float]:
        """Layer -> error that it alone in 8 bits brings into the encoder's outputs.

        The root of the mean squared difference relative to that of the float output, the worst of the
        outputs. Largest first.

        Args:
            probes: (K, S, S) or (K, 3, S, S) images; a few are enough.
        """
        wanted = _outputs(self.encoder, probes)
        errors = {
            layer: relative_error(wanted, _outputs(self.quantise([layer]), probes))
            for layer in self.layers
        }
        return dict(sorted(errors.items(), key=lambda item: -item[1]))


@contextmanager
def quantiser(encoder: bytes, squares: FloatArray) -> Iterator[Quantiser]:
    """A `Quantiser` with a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        yield Quantiser(encoder, squares, Path(folder))


def relative_error(wanted: list[FloatArray], found: list[FloatArray]) -> float:
    """Worst of the outputs' errors: ||found - wanted|| / ||wanted||.

    >>> relative_error([np.array([3.0, 4.0])], [np.array([3.0, 4.5])])
    0.1
    """
    pairs = zip(wanted, found, strict=True)
    return max(
        float(np.linalg.norm(b - a)) / max(float(np.linalg.norm(a)), 1e-12)
        for a, b in pairs
        if a.size > 1
    )


def _outputs(encoder: bytes, squares: FloatArray) -> list[FloatArray]:
    """Every output over all images, stacked."""
    session = InferenceSession(
        encoder, session_options(usable_threads()), providers=["CPUExecutionProvider"]
    )
    rows = [session.run(None, {"image": _batch(square)}) for square in squares]
    return [np.stack(output) for output in zip(*rows, strict=True)]


def _batch(square: FloatArray) -> FloatArray:
    return square[None, None] if square.ndim == 2 else square[None]


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # its types are not seen
    """Calibration images one by one, as the tools ask for them."""

    def __init__(self, squares: FloatArray) -> None:
        self._rest = iter(squares)

    def get_next(self) -> dict[str, Any] | None:
        square = next(self._rest, None)
        return None if square is None else {"image": _batch(square)}


@contextmanager
def _quiet() -> Iterator[None]:
    """The tools recommend preprocessing that would only make the file larger."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
