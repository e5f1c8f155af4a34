"""OpenVinoGraph: one of a bundle's graphs on OpenVINO, fastest where the processor has bfloat16."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samling.errors import InputError

_OUTSIDE = b"\x0a\x08location"
"""How an ONNX file names another file as its weights; OpenVINO would look for it anywhere."""


@dataclass(frozen=True)
class CallKind:
    """A kind of call: the shapes of its inputs, and which of them are zero.

    Args:
        shapes: of the inputs with free dimensions.
        zero: which of these are all zeros; what is computed from them alone is computed once.
    """

    shapes: Mapping[str, tuple[int, ...]]
    zero: tuple[str, ...] = ()

    def holds(self, inputs: Mapping[str, NDArray[np.float32]]) -> bool:
        """Whether a call is of this kind."""
        alike = all(inputs[name].shape == shape for name, shape in self.shapes.items())
        return alike and not any(inputs[name].any() for name in self.zero)


class OpenVinoGraph:
    """Compiled for this processor: for any call, and once more for each kind of call that is made often.

    Free dimensions cost the mask decoder a quarter of its time: shapes and buffers are then worked out
    in every call.

    Args:
        model: ONNX as bytes, or, with `weights`, OpenVINO's own form of a graph.
        where: for error messages.
        threads: how many.
        half: multiply in bfloat16 where the processor can; sums stay in float32.
        weights: of a graph in OpenVINO's form.
        often: kinds of calls. The first one is compiled at once (without any: the form for any call), every
            other form when it is first needed, which takes that call some tenths of a second longer.

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
        often: Sequence[CallKind] = (),
    ) -> None:
        try:
            import openvino
        except ModuleNotFoundError:
            remedy = "pip install openvino, or use a bundle for onnxruntime"
            raise InputError("runtime", "openvino is not installed", remedy) from None
        if _OUTSIDE in model:
            raise InputError(where, "has weights outside of itself", "do not use this file")
        self._remedy = "use --runtime onnxruntime" if weights is None else "export it again"
        self._where, self._core, self._often = where, openvino.Core(), often
        rounded = half and "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self._settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            # bound to cores, two processes would share one and leave the others idle
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": "bf16" if rounded else "f32",
        }
        self._compiled = dict[int | None, Any]()
        self._lock, self._own = threading.Lock(), threading.local()
        with self._refusing():
            self._model = self._core.read_model(model, weights)
            self.inputs = frozenset(port.any_name for port in self._model.inputs)
            self.outputs = tuple(port.any_name for port in self._model.outputs)
        # a graph with other inputs than it should have is refused by whoever asked for this one
        expected = all(kind.shapes.keys() <= self.inputs for kind in often)
        self._form(0 if often and expected else None)

    def run(self, inputs: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Arrays by name in and out; the results are copies that stay valid. Any thread may ask.

        Raises:
            InputError: OpenVINO cannot compile the form that this call needs.
        """
        number = next((n for n, kind in enumerate(self._often) if kind.holds(inputs)), None)
        if number is not None:
            inputs = {k: v for k, v in inputs.items() if k not in self._often[number].zero}
        if not hasattr(self._own, "requests"):
            self._own.requests = {}
        requests = self._own.requests
        if number not in requests:
            requests[number] = self._form(number).create_infer_request()
        # its views are of memory that the next call overwrites: copied once, here
        found = requests[number].infer(inputs, share_inputs=True, share_outputs=True)
        return {name: np.array(found[name]) for name in self.outputs}

    def _form(self, number: int | None) -> Any:
        """Compiled for the kind of call `often[number]`; None: for any call."""
        with self._lock, self._refusing():
            if number not in self._compiled:
                model = (
                    self._model if number is None else _made_for(self._often[number], self._model)
                )
                self._compiled[number] = self._core.compile_model(model, "CPU", self._settings)
            return self._compiled[number]

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """OpenVINO's complaints, which name its own source files, in one line."""
        try:
            yield
        except RuntimeError as error:
            lines = [line for line in str(error).splitlines() if not line.startswith("Exception")]
            problem = f"is not usable by OpenVINO ({(lines or ['unknown'])[0][:160]})"
            raise InputError(self._where, problem, self._remedy) from error


def _made_for(kind: CallKind, model: Any) -> Any:
    from openvino import opset13

    made = model.clone()
    made.reshape({name: list(shape) for name, shape in kind.shapes.items()})
    for given in [p for p in made.get_parameters() if p.output(0).any_name in kind.zero]:
        nothing = opset13.constant(np.zeros(tuple(given.shape), dtype=np.float32))
        for user in given.output(0).get_target_inputs():
            user.replace_source_output(nothing.output(0))
        made.remove_parameter(given)
    return made
