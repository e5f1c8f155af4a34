"""Fusion: U-Net-like skips (Ronneberger et al. 2015, arXiv 1505.04597) from encoder to mask decoder."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HIDDEN = 32


class Fusion(nn.Module):
    """Levels of the encoder and its embedding -> what the decoder adds while it upscales.

    From the embedding's grid upwards: enlarge, add the levels of the new grid, convolve. Levels of a
    plain ViT, which all have the embedding's grid, meet there. The result is zero at first, so that
    a decoder trained without it starts unchanged.

    Args:
        widths: channels of the levels.
        channels: of the embedding.
    """

    def __init__(self, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(width, HIDDEN, 1) for width in (*widths, channels))
        self.blend = nn.ModuleList(
            nn.Sequential(nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1), nn.GELU()) for _ in range(2)
        )
        self.out = nn.ModuleList(nn.Conv2d(HIDDEN, channels // part, 1) for part in (4, 8))
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, levels: Sequence[Tensor], embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Skips (B, C / 8, 4h, 4w) and (B, C / 4, 2h, 2w)."""
        side = embedding.shape[-1]
        x = torch.zeros_like(embedding[:, :HIDDEN])
        skips = []
        for factor in (1, 2, 4):
            x = F.interpolate(x, [side * factor] * 2, mode="bilinear")
            for conv, level in zip(self.lateral, (*levels, embedding), strict=True):
                if _grid(level.shape[-1] / side) == factor:
                    x = x + _resized(conv(level), side * factor)
            if factor > 1:
                x = self.blend[factor // 4](x)
                skips.append(self.out[factor // 4](x))
        middle, fine = skips
        return fine, middle


def _grid(ratio: float) -> int:
    """Which of the decoder's grids, 1, 2 or 4 times the embedding's, a level enters at."""
    return 4 if ratio >= 4 else 2 if ratio >= 2 else 1


def _resized(level: Tensor, side: int) -> Tensor:
    if level.shape[-1] == side:
        return level
    return F.interpolate(level, [side, side], mode="bilinear")
