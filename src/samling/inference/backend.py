"""Backend: the two numerical steps of a segmenter, whatever runs them (PyTorch, ONNX Runtime, OpenVINO)."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Encoding(NamedTuple):
    """One image's embedding, reused for every prompt on that image."""

    embedding: NDArray[np.float32]
    """(1, C, h, w)"""
    presence: float | tuple[float, ...] | None
    """Logit that the image holds any object, or one per class; None if there is no automatic mode."""
    skips: tuple[NDArray[np.float32], ...] = ()
    """Finer features for the decoder, see `samling.models.contract.Embedding`; () if it has none."""


class Backend(Protocol):
    """What inference needs of a model. Arrays in, arrays out, no gradients."""

    def encode(self, plane: NDArray[np.float32]) -> Encoding:
        """(S, S) or (3, S, S) model input in [0, 1], padded (see data/intensity.py) -> its encoding."""
        ...

    def decode(
        self,
        encoding: Encoding,
        coords: NDArray[np.float32],
        labels: NDArray[np.int64],
        masks: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Decode P objects at once.

        Args:
            coords: (P, N, 2) x, y in model pixel indices. labels: (P, N) `Token` kinds.
            masks: (P, 4h, 4w) earlier logits, or None.

        Returns:
            (P, 4h, 4w) mask logits over the whole square and (P,) predicted IoU.
        """
        ...
