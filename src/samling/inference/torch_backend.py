"""Backend on PyTorch, around any `Promptable`. The only module of this room that imports torch."""

import numpy as np
import torch
from numpy.typing import NDArray

from samling.inference.backend import Encoding
from samling.models.contract import Embedding, Promptable, PromptTokens


class TorchBackend:
    """Runs a model in evaluation mode, without gradients, where its weights are.

    Args:
        model: the segmenter; it is put into evaluation mode here and before every call, so that
            training may go on in between.
    """

    def __init__(self, model: Promptable) -> None:
        self.model = model
        model.module.eval()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.module.parameters()).device

    @torch.inference_mode()
    def encode(self, plane: NDArray[np.float32]) -> Encoding:
        """(S, S) or (3, S, S) model input in [0, 1] -> its encoding."""
        self.model.module.eval()
        image = plane[None] if plane.ndim == 2 else plane
        images = torch.from_numpy(np.ascontiguousarray(image))[None].to(self.device)
        embedding = self.model.encode(images)
        scores = embedding.presence
        presence = None if scores is None else tuple(scores.float().flatten().tolist())
        image, *skips = (t.float().cpu().numpy() for t in (embedding.image, *embedding.skips))
        return Encoding(image, presence, tuple(skips))

    @torch.inference_mode()
    def decode(
        self,
        encoding: Encoding,
        coords: NDArray[np.float32],
        labels: NDArray[np.int64],
        masks: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(P, N, 2) coords, (P, N) labels -> (P, 4h, 4w) logits and (P,) predicted IoU."""
        self.model.module.eval()
        device = self.device
        tokens = PromptTokens(
            torch.from_numpy(coords)[None].to(device),
            torch.from_numpy(labels)[None].to(device),
            None if masks is None else torch.from_numpy(masks)[None].to(device),
        )
        image, *skips = (
            torch.from_numpy(part).to(device) for part in (encoding.embedding, *encoding.skips)
        )
        embedding = Embedding(image, None, tuple(skips))
        decoded = self.model.decode(embedding, tokens)
        return decoded.masks[0].float().cpu().numpy(), decoded.quality[0].float().cpu().numpy()
