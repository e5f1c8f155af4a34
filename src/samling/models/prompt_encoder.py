"""Prompt encoder: SAM's (Kirillov et al. 2023, arXiv 2304.02643) with one list of tokens for everything.

Points, box corners, padding and the learned default prompt of automatic mode are all tokens with a
label (`samling.prompts.prompt.Token`), as in SAM's ONNX decoder: one graph serves every prompt.
"""

import math

import torch
from torch import Tensor, nn

from samling.models.tiny_vit import EMBEDDING_CHANNELS, ChannelNorm
from samling.prompts.prompt import AUTOMATIC_TOKENS, Token

MASK_CHANNELS = 16


class PromptEncoder(nn.Module):
    """Tokens and masks -> sparse and dense prompt embeddings.

    Args:
        input_size: side of the model's square in pixels, for normalising coordinates.
        embedding_size: side of the image embedding's grid.
    """

    frequencies: Tensor

    def __init__(self, input_size: int, embedding_size: int) -> None:
        super().__init__()
        width = EMBEDDING_CHANNELS
        self.input_size, self.embedding_size = input_size, embedding_size
        self.register_buffer("frequencies", torch.randn(2, width // 2))
        self.kinds = nn.Embedding(4, width)  # negative, positive, top left, bottom right
        self.padding = nn.Embedding(1, width)
        self.automatic = nn.Embedding(AUTOMATIC_TOKENS, width)
        nn.init.normal_(self.automatic.weight, std=0.1)
        self.no_mask = nn.Embedding(1, width)
        quarter = MASK_CHANNELS // 4
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, quarter, 2, stride=2),
            ChannelNorm(quarter, eps=1e-6),
            nn.GELU(),
            nn.Conv2d(quarter, MASK_CHANNELS, 2, stride=2),
            ChannelNorm(MASK_CHANNELS, eps=1e-6),
            nn.GELU(),
            nn.Conv2d(MASK_CHANNELS, width, 1),
        )

    def answer_for(self, classes: int) -> None:
        """An automatic prompt for each of so many classes, equal at first."""
        own = self.automatic.weight.detach()[:AUTOMATIC_TOKENS]
        self.automatic = nn.Embedding.from_pretrained(own.repeat(classes, 1), freeze=False)

    def positions(self, xy: Tensor) -> Tensor:
        """(..., 2) in [0, 1] -> (..., 256) random Fourier features."""
        phase = 2 * math.pi * ((2 * xy.float() - 1) @ self.frequencies.float())
        return torch.cat([phase.sin(), phase.cos()], dim=-1)

    def grid(self) -> Tensor:
        """(1, 256, h, w) positions of the cells of the image embedding."""
        size = self.embedding_size
        axis = (torch.arange(size, device=self.frequencies.device) + 0.5) / size
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        return self.positions(torch.stack([x, y], dim=-1)).permute(2, 0, 1).unsqueeze(0)

    def sparse(self, coords: Tensor, labels: Tensor) -> Tensor:
        """(N, T, 2) pixel indices and (N, T) token labels -> (N, T, 256)."""
        pointed = (labels >= Token.NEGATIVE) & (labels <= Token.BOTTOM_RIGHT)
        where = self.positions((coords + 0.5) / self.input_size) * pointed.unsqueeze(-1)
        # One table: [padding, negative, positive, top left, bottom right, automatic ...]
        table = torch.cat([self.padding.weight, self.kinds.weight, self.automatic.weight])
        return where + table[(labels - Token.PADDING).long()]

    def dense(self, masks: Tensor | None, given: Tensor | None, count: int) -> Tensor:
        """(N, 1, 4h, 4w) logits -> (N, 256, h, w); where none is given, the learned 'no mask'.

        Args:
            given: (N,) bool, which of `masks` count; None: all of them.
        """
        size = self.embedding_size
        nothing = self.no_mask.weight.view(1, -1, 1, 1).expand(count, -1, size, size)
        if masks is None:
            return nothing
        seen = self.mask_downscaling(masks)
        return seen if given is None else torch.where(given.view(-1, 1, 1, 1), seen, nothing)
