"""Backend of bundles, on ONNX Runtime or OpenVINO: all that a cart needs, without PyTorch."""

import os
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from samling.errors import InputError
from samling.inference.backend import Encoding
from samling.inference.bundle import DECODER, ENCODER, OPENVINO_ENCODER, Bundle, read_bundle
from samling.inference.embedding_cache import CachedBackend
from samling.inference.segmenter import Segmenter
from samling.prompts.prompt import AUTOMATIC_TOKENS

_THREADS_AT_MOST = 8  # one small image: more threads wait for each other
_ENCODER_INPUTS = {"image"}
_DECODER_INPUTS = {
    "image_embeddings",
    "point_coords",
    "point_labels",
    "mask_input",
    "has_mask_input",
}
SKIPS = ("high_res_feats_0", "high_res_feats_1")
"""Encoder outputs and decoder inputs of models with skip features, fine to coarse."""
Runtime = Literal["onnxruntime", "openvino"]
RUNTIMES: tuple[Runtime, ...] = ("onnxruntime", "openvino")
FloatArray = NDArray[np.float32]


class Graph(Protocol):
    """One ONNX model, loaded by some runtime."""

    inputs: frozenset[str]
    outputs: tuple[str, ...]

    def run(self, inputs: dict[str, FloatArray]) -> dict[str, FloatArray]:
        """Arrays by name in and out."""
        ...


class OnnxBackend:
    """Runs a bundle's encoder and decoder.

    Args:
        bundle: the two models as bytes, and their card.
        where: the bundle's path, for error messages.
        threads: per model; None: as many as this process may use, at most 8.
        runtime: what computes; None: what the bundle was made for. OpenVINO runs the encoder in
            bfloat16 where the processor can, and the decoder of an encoder in 8 bits.

    Raises:
        InputError: not ONNX, not with the inputs of a samling bundle, or not for this runtime.
    """

    def __init__(
        self,
        bundle: Bundle,
        where: str | Path = "bundle",
        threads: int | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        own: Runtime = "openvino" if bundle.weights else "onnxruntime"
        runtime = runtime or own
        if runtime != own and (bundle.weights or bundle.card.precision != "float32"):
            problem = f"has 8-bit layers in a form that only {own} computes rightly"
            remedy = f"use --runtime {own}, or export --format "
            remedy += "openvino-int8" if runtime == "openvino" else "onnx-int8"
            raise InputError(where, problem, remedy)
        count = threads or usable_threads()
        encoder = f"{where}/{OPENVINO_ENCODER if bundle.weights else ENCODER}"
        self._encoder = _encoder(runtime, bundle, encoder, count)
        self._decoder = _decoder(runtime, bundle, f"{where}/{DECODER}", count)
        _require_inputs(self._encoder, encoder, _ENCODER_INPUTS)
        _require_inputs(self._decoder, f"{where}/{DECODER}", _DECODER_INPUTS)
        # its decoder rounds, and each of its compiled forms in its own way
        self._one_by_one = runtime == "openvino" and bundle.card.precision == "int8"
        side = 4 * bundle.card.embedding_size
        self._no_mask = np.zeros((1, 1, side, side), dtype=np.float32)

    def encode(self, plane: NDArray[np.float32]) -> Encoding:
        """(S, S) or (3, S, S) model input in [0, 1] -> its encoding."""
        image = np.ascontiguousarray(plane, dtype=np.float32)
        outputs = self._encoder.run(
            {"image": image[None, None] if image.ndim == 2 else image[None]}
        )
        presence = outputs.get("presence")
        skips = tuple(outputs[name] for name in SKIPS if name in outputs)
        return Encoding(
            outputs["image_embeddings"],
            None if presence is None else tuple(presence.ravel().tolist()),
            skips,
        )

    def decode(
        self,
        encoding: Encoding,
        coords: NDArray[np.float32],
        labels: NDArray[np.int64],
        masks: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(P, N, 2) coords, (P, N) labels -> (P, 4h, 4w) logits and (P,) predicted IoU."""
        count = len(coords)
        if count > 1 and self._one_by_one:
            # an object's mask must not depend on which others were asked for
            parts = [slice(n, n + 1) for n in range(count)]
            found = [
                self.decode(encoding, coords[n], labels[n], None if masks is None else masks[n])
                for n in parts
            ]
            return np.concatenate([low for low, _ in found]), np.concatenate([q for _, q in found])
        given = np.zeros if masks is None else np.ones
        if masks is None:
            planes = np.broadcast_to(self._no_mask, (count, *self._no_mask.shape[1:]))
        else:
            planes = masks[:, None]
        inputs = {
            "image_embeddings": encoding.embedding,
            "point_coords": coords.astype(np.float32, copy=False),
            "point_labels": labels.astype(np.float32),
            "mask_input": np.ascontiguousarray(planes, dtype=np.float32),
            "has_mask_input": given(count, dtype=np.float32),
            **dict(zip(SKIPS, encoding.skips, strict=False)),
        }
        outputs = self._decoder.run(inputs)
        return outputs["low_res_masks"][:, 0], outputs["iou_predictions"][:, 0]


class OnnxRuntimeGraph:
    """A graph on ONNX Runtime.

    Raises:
        InputError: not ONNX.
    """

    def __init__(self, model: bytes, where: str | Path, threads: int) -> None:
        options, providers = session_options(threads), ["CPUExecutionProvider"]
        try:
            self._session = ort.InferenceSession(model, options, providers=providers)
        except Exception as error:  # ONNX Runtime raises a dozen unrelated types for a damaged file
            reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
            problem = f"is not a usable ONNX model ({reason})"
            raise InputError(where, problem, "export it again") from error
        self.inputs = frozenset(entry.name for entry in self._session.get_inputs())
        self.outputs = tuple(entry.name for entry in self._session.get_outputs())

    def run(self, inputs: dict[str, FloatArray]) -> dict[str, FloatArray]:
        """Arrays by name in and out."""
        return dict(zip(self.outputs, self._session.run(None, inputs), strict=True))


def load_bundle(
    path: str | Path, threads: int | None = None, runtime: Runtime | None = None
) -> Segmenter:
    """A bundle folder or zip, ready to use; it remembers the last few images it encoded.

    Raises:
        InputError: not a bundle, damaged, unsafe, or not for this runtime.
    """
    bundle = read_bundle(path)
    backend = OnnxBackend(bundle, path, threads, runtime)
    return Segmenter(CachedBackend(backend), bundle.card)


def usable_threads() -> int:
    """Processors that this process may use, at most 8; `OMP_NUM_THREADS` overrules.

    ONNX Runtime's own default counts the machine's cores, also where a container has fewer.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(count, _THREADS_AT_MOST)


def session_options(threads: int) -> Any:
    """Settings of an ONNX Runtime session: that many threads, quiet, and no file but the model."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Waiting threads of the encoder would otherwise burn the cores that the decoder needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A graph may name other files as its weights; from bytes they would be looked for in the
    # working directory. Below the null device there are none.
    nowhere = str(Path(os.devnull) / "nowhere")
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", nowhere
    )
    return options


def _encoder(runtime: Runtime, bundle: Bundle, where: str, threads: int) -> Graph:
    if runtime == "onnxruntime":
        return OnnxRuntimeGraph(bundle.encoder, where, threads)
    from samling.inference.openvino_graph import OpenVinoGraph

    weights = bundle.weights or None
    return OpenVinoGraph(bundle.encoder, where, threads, half=True, weights=weights)


def _decoder(runtime: Runtime, bundle: Bundle, where: str, threads: int) -> Graph:
    if runtime == "onnxruntime":
        return OnnxRuntimeGraph(bundle.decoder, where, threads)
    from samling.inference.openvino_graph import CallKind, OpenVinoGraph

    # Masks are cut from its logits: they keep float32, but where 8 bits have cost more already
    half = bundle.card.precision == "int8"
    side = 4 * bundle.card.embedding_size
    mask = {"mask_input": (1, 1, side, side), "has_mask_input": (1,)}
    often = [
        CallKind({"point_coords": (1, n, 2), "point_labels": (1, n), **mask}, zero=tuple(mask))
        for n in _usual_tokens(bundle)
    ]
    return OpenVinoGraph(bundle.decoder, where, threads, half=half, often=often)


def _usual_tokens(bundle: Bundle) -> tuple[int, ...]:
    """Of one object without a mask: a box, one point, automatic mode; the most usual first."""
    prompted = {"points": (2,), "always": (3, 2), "six": (6,)}[bundle.card.token_padding]
    return (*prompted, AUTOMATIC_TOKENS) if "automatic" in bundle.card.prompts else prompted


def _require_inputs(graph: Graph, where: str, inputs: set[str]) -> None:
    if graph.inputs - set(SKIPS) != inputs:
        problem = f"has the inputs {sorted(graph.inputs)} instead of {sorted(inputs)}"
        raise InputError(where, problem, "use a bundle made by samling export")
