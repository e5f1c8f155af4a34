"""Network: any image-to-logits network as a `Promptable`; a box is a second channel of its input."""

import torch
from torch import Tensor, nn

from samling.errors import InputError, one_of
from samling.models.contract import Embedding, MaskLogits, PromptTokens, Sites
from samling.models.networks.registry import NETWORKS
from samling.prompts.prompt import Token


class Network(nn.Module):
    """A network of `registry.NETWORKS` with the interface of a promptable model.

    `encode` only hands the image on; `decode` runs the network once per prompt, with the box filled
    with ones as second channel (all zeros: automatic). MedSAM's authors compare with such a U-Net.

    Args:
        kind: name of the architecture.
        width: channels that it starts with; 0: its usual ones.
        boxes: whether it has the second channel; without it, it is automatic alone.
        input_size: side of the square in pixels, a multiple of 32.

    Raises:
        InputError: unknown architecture, or a size that cannot be halved five times.
    """

    def __init__(
        self, kind: str, *, width: int = 0, boxes: bool = True, input_size: int = 256
    ) -> None:
        super().__init__()
        if kind not in NETWORKS:
            raise InputError(kind, "is no network", one_of(kind, NETWORKS))
        if input_size % 32:
            raise InputError(f"{input_size} px", "is no multiple of 32", "e.g. 128, 256 or 512")
        make, usual = NETWORKS[kind]
        self.kind, self.width, self.boxes = kind, width or usual, boxes
        self.input_size, self.embedding_size = input_size, input_size // 4
        self.network = make(1 + boxes, self.width, input_size)

    @property
    def sites(self) -> Sites:
        """None: it is trained whole."""
        return {}

    @property
    def module(self) -> nn.Module:
        """Itself."""
        return self

    def encode(self, images: Tensor) -> Embedding:
        """(B, 1, S, S) in [0, 1] -> the same."""
        return Embedding(images, None)

    def decode(self, embedding: Embedding, prompts: PromptTokens) -> MaskLogits:
        """Masks at full size, and the IoU that they have if the probabilities are right."""
        batch, objects = prompts.labels.shape[:2]
        images = embedding.image.unsqueeze(1).expand(-1, objects, -1, -1, -1)
        x = 2 * images - 1
        if self.boxes:
            x = torch.cat([x, boxes_drawn(prompts, self.input_size).to(x.dtype)], 2)
        logits = self.network(x.flatten(0, 1))
        logits = logits.reshape(batch, objects, self.input_size, self.input_size)
        return MaskLogits(logits, expected_iou(logits))


def boxes_drawn(prompts: PromptTokens, side: int) -> Tensor:
    """(B, P, 1, S, S): 1 where a pixel's centre is inside the prompt's box, 0 without a box."""
    corners = [
        (prompts.coords * (prompts.labels == token).unsqueeze(-1)).sum(2)
        for token in (Token.TOP_LEFT, Token.BOTTOM_RIGHT)
    ]
    first, last = (corner[..., None, None, :] for corner in corners)  # (B, P, 1, 1, 2)
    given = (prompts.labels == Token.TOP_LEFT).any(2)[..., None, None]
    index = torch.arange(side, device=prompts.coords.device, dtype=prompts.coords.dtype)
    x, y = index[None, :], index[:, None]
    # Corners are the box's first and last pixel as indices, see `Prompt.tokens`
    across = (x >= first[..., 0] - 0.5) & (x <= last[..., 0] + 0.5)
    down = (y >= first[..., 1] - 0.5) & (y <= last[..., 1] + 0.5)
    return (across & down & given).unsqueeze(2)


@torch.no_grad()
def expected_iou(logits: Tensor) -> Tensor:
    """(..., H, W) logits -> (...) Σ p inside the mask / (its area + Σ p outside).

    The IoU to be expected of the mask `logits > 0` if every p is the true share of hits.
    """
    probability = logits.float().sigmoid()
    inside = (probability > 0.5).to(probability.dtype)
    hits = (probability * inside).sum((-2, -1))
    union = (inside + probability * (1 - inside)).sum((-2, -1))
    return hits / union.clamp(min=1e-6)
