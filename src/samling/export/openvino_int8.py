"""openvino_int8: an encoder with 8-bit layers in OpenVINO's own form, made by NNCF.

Weights are scaled per channel, activations by ranges seen on calibration images; outliers are moved from
activations into weights first (SmoothQuant, arXiv 2211.10438), and biases corrected afterwards.
"""

import importlib.util
import io
import logging
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samling.errors import InputError


def quantise(
    encoder: bytes, squares: NDArray[np.float32], in_float: Sequence[str] = ()
) -> tuple[bytes, bytes]:
    """Graph (XML) and weights (half floats and bytes) of the encoder with 8-bit layers.

    Args:
        encoder: ONNX, one input `image` (1, 1 | 3, S, S).
        squares: (N, S, S) or (N, 3, S, S) calibration images in [0, 1], as the model sees them.
        in_float: names of convolutions that stay in floats, see `convolutions`.

    Raises:
        InputError: OpenVINO or NNCF is not installed.
    """
    check_installed()
    with _quiet():
        import nncf
        import openvino

        batches = [{"image": one[None, None] if one.ndim == 2 else one[None]} for one in squares]
        made = nncf.quantize(
            openvino.Core().read_model(encoder),
            nncf.Dataset(batches),
            preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(batches),
            # attention's biases are looked up in tables: constants, which it takes for weights
            ignored_scope=nncf.IgnoredScope(types=["Gather"], names=list(in_float), validate=False),
        )
        with tempfile.TemporaryDirectory() as folder:
            graph = Path(folder) / "encoder.xml"
            openvino.save_model(made, graph)
            return graph.read_bytes(), graph.with_suffix(".bin").read_bytes()


def convolutions(encoder: bytes) -> list[str]:
    """Names of an encoder's convolutions as OpenVINO reads it, those near the image first."""
    check_installed()
    import openvino

    return [
        node.get_friendly_name()
        for node in openvino.Core().read_model(encoder).get_ordered_ops()
        if node.get_type_name() in ("Convolution", "GroupConvolution")
    ]


def check_installed() -> None:
    """Refuse at once what would be missing at the end.

    Raises:
        InputError: OpenVINO or NNCF is not installed.
    """
    for name in ("openvino", "nncf"):
        if importlib.util.find_spec(name) is None:
            remedy = "pip install '.[quantise]' in the folder of samling's source"
            raise InputError("--format", f"openvino-int8 needs {name}", remedy)


@contextmanager
def _quiet() -> Iterator[None]:
    """NNCF talks a lot, and reports its use over the network where it finds the package that does so.

    It looks for that package once, when it is imported: so it is hidden until then.
    """
    told = sys.modules.get("openvino_telemetry")
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # cannot be imported now
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
        del sys.modules["openvino_telemetry"]
        if told is not None:
            sys.modules["openvino_telemetry"] = told
