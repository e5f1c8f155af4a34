"""OpenVinoGraph: one of a bundle's graphs on OpenVINO, fastest where the processor has bfloat16."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samling.errors import InputError

_OUTSIDE = b"\x0a\x08location"
"""How an ONNX file names another file as its weights; OpenVINO would look for it anywhere."""


class OpenVinoGraph:
    """Compiled for this processor.

    Args:
        model: ONNX as bytes, or, with `weights`, OpenVINO's own form of a graph.
        where: for error messages.
        threads: how many.
        half: multiply in bfloat16 where the processor can; sums stay in float32.
        weights: of a graph in OpenVINO's form.

    Raises:
        InputError: OpenVINO is not installed or cannot use the model, or its weights lie elsewhere.
    """

    def __init__(
        self,
        model: bytes,
        where: str | Path,
        threads: int,
        *,
        half: bool,
        weights: bytes | None = None,
    ) -> None:
        try:
            import openvino
        except ModuleNotFoundError:
            remedy = "pip install openvino, or use a bundle for onnxruntime"
            raise InputError("--runtime", "openvino is not installed", remedy) from None
        if _OUTSIDE in model:
            raise InputError(where, "has weights outside of itself", "do not use this file")
        core = openvino.Core()
        able = half and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            # bound to cores, two processes would share one and leave the others idle
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": "bf16" if able else "f32",
        }
        try:
            compiled = core.compile_model(core.read_model(model, weights), "CPU", settings)
            self.inputs = frozenset(port.any_name for port in compiled.inputs)
            self.outputs = tuple(port.any_name for port in compiled.outputs)
        except RuntimeError as error:
            lines = [line for line in str(error).splitlines() if not line.startswith("Exception")]
            problem = f"is not usable by OpenVINO ({(lines or ['unknown'])[0][:160]})"
            remedy = "use --runtime onnxruntime" if weights is None else "export it again"
            raise InputError(where, problem, remedy) from error
        self._compiled, self._own = compiled, threading.local()

    def run(self, inputs: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Arrays by name in and out; the results are copies that stay valid. Any thread may ask."""
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        found = self._own.request.infer(inputs, share_inputs=True)
        return {name: np.array(found[name]) for name in self.outputs}
