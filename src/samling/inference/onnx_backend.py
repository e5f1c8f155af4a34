"""Backend on ONNX Runtime: all that a cart needs, without PyTorch."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from samling.errors import InputError
from samling.inference.backend import Encoding
from samling.inference.bundle import DECODER, ENCODER, Bundle, read_bundle
from samling.inference.segmenter import Segmenter

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


class OnnxBackend:
    """Runs a bundle's encoder and decoder.

    Args:
        bundle: the two models as bytes, and their card.
        where: the bundle's path, for error messages.
        threads: per model; None: as many as this process may use, at most 8.

    Raises:
        InputError: not ONNX, or not with the inputs of a samling bundle.
    """

    def __init__(
        self, bundle: Bundle, where: str | Path = "bundle", threads: int | None = None
    ) -> None:
        options = session_options(threads or usable_threads())
        self._encoder = _session(bundle.encoder, options, f"{where}/{ENCODER}", _ENCODER_INPUTS)
        self._decoder = _session(bundle.decoder, options, f"{where}/{DECODER}", _DECODER_INPUTS)
        self._outputs = [output.name for output in self._encoder.get_outputs()]
        side = 4 * bundle.card.embedding_size
        self._no_mask = np.zeros((1, 1, side, side), dtype=np.float32)

    def encode(self, plane: NDArray[np.float32]) -> Encoding:
        """(S, S) or (3, S, S) model input in [0, 1] -> its encoding."""
        image = np.ascontiguousarray(plane, dtype=np.float32)
        image = image[None, None] if image.ndim == 2 else image[None]
        outputs = dict(zip(self._outputs, self._encoder.run(None, {"image": image}), strict=True))
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
        low, quality = self._decoder.run(["low_res_masks", "iou_predictions"], inputs)
        return low[:, 0], quality[:, 0]


def load_bundle(path: str | Path, threads: int | None = None) -> Segmenter:
    """A bundle folder or zip, ready to use.

    Raises:
        InputError: not a bundle, damaged, or unsafe.
    """
    bundle = read_bundle(path)
    return Segmenter(OnnxBackend(bundle, path, threads), bundle.card)


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


def _session(model: bytes, options: Any, where: str, inputs: set[str]) -> Any:
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises a dozen unrelated types for a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise InputError(
            where, f"is not a usable ONNX model ({reason})", "export it again"
        ) from error
    names = {entry.name for entry in session.get_inputs()}
    if names - set(SKIPS) != inputs:
        problem = f"has the inputs {sorted(names)} instead of {sorted(inputs)}"
        raise InputError(where, problem, "use a bundle made by samling export")
    return session
