"""TinyViT image encoder (Wu et al., ECCV 2022, arXiv 2207.10666) with a choice of stem and SAM's neck.

Two stems: `full` keeps every pixel (LiteMedSAM: a 64x64 embedding at 256 px, 75 GFLOPs), `light`
starts with stride 4 (a 16x16 embedding, 6 GFLOPs). The stages behind them are the same.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

Stem = Literal["full", "light"]
WIDTHS = (64, 128, 160, 320)
DEPTHS = (2, 2, 6, 2)
HEADS = (2, 4, 5, 10)
EMBEDDING_CHANNELS = 256
MLP_RATIO = 4
WINDOWS: dict[Stem, tuple[int, int, int]] = {"full": (7, 14, 7), "light": (8, 16, 8)}
"""Attention windows of stages 1 to 3. The light ones divide 32, 16 and 16: nothing is padded at 256 px."""


class ConvNorm(nn.Sequential):
    """Convolution without bias, then batch normalisation."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        conv = nn.Conv2d(
            inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False
        )
        super().__init__()
        self.c: nn.Module
        self.bn: nn.Module
        self.add_module("c", conv)
        self.add_module("bn", nn.BatchNorm2d(outputs))


def fold_norms(model: nn.Module) -> None:
    """Fold every batch norm of a frozen, evaluating model into its convolution, in place.

    The same function up to rounding, a fifth faster on a CPU; for models that no longer learn norms.
    """
    for module in model.modules():
        if not isinstance(module, ConvNorm):
            continue
        if isinstance(module.c, nn.Conv2d) and isinstance(module.bn, nn.BatchNorm2d):
            module.c = fuse_conv_bn_eval(module.c, module.bn)
            module.bn = nn.Identity()


class InvertedBottleneck(nn.Module):
    """MBConv body: expand, depthwise 3x3, project. (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, width: int, ratio: int = 4) -> None:
        super().__init__()
        self.conv1 = ConvNorm(width, width * ratio, 1)
        self.conv2 = ConvNorm(width * ratio, width * ratio, 3, groups=width * ratio)
        self.conv3 = ConvNorm(width * ratio, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))


class ConvBlock(nn.Module):
    """Stage-0 block: MBConv with a residual path. (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = InvertedBottleneck(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x + self.body(x))


class PatchMerging(nn.Module):
    """Change width, halve the grid if `stride` is 2. (B, C, H, W) -> (B, C', H/stride, W/stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, outputs, 1)
        self.conv2 = ConvNorm(outputs, outputs, 3, stride, groups=outputs)
        self.conv3 = ConvNorm(outputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))


class WindowAttention(nn.Module):
    """Multi-head self-attention inside one window, with a learned bias per offset.

    (N, w * w, C) -> (N, w * w, C); normalises its input itself.
    """

    offsets: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        axis = torch.arange(window)
        rows, columns = (grid.reshape(-1) for grid in torch.meshgrid(axis, axis, indexing="ij"))
        distance_y = (rows[:, None] - rows[None, :]).abs()
        distance_x = (columns[:, None] - columns[None, :]).abs()
        self.register_buffer("offsets", distance_y * window + distance_x, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        windows, tokens, width = x.shape
        # The checkpoint's rows are ordered head by head: q, k, v of head 0, then of head 1, ...
        qkv = self.qkv(self.norm(x)).view(windows, tokens, self.heads, 3, width // self.heads)
        q, k, v = qkv.permute(3, 0, 2, 1, 4)  # N, T, heads, 3, d -> 3, N, heads, T, d
        # index_select: the gradient of plain indexing is summed in another order every time
        bias = self.attention_biases.index_select(1, self.offsets.flatten())
        bias = bias.view(1, self.heads, tokens, tokens).to(q.dtype)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(out.transpose(1, 2).reshape(windows, tokens, width))


class Mlp(nn.Module):
    """Norm, widen four times, GELU, narrow. (..., C) -> (..., C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, width * MLP_RATIO)
        self.fc2 = nn.Linear(width * MLP_RATIO, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class TinyViTBlock(nn.Module):
    """Window attention, depthwise convolution, MLP. (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = WindowAttention(width, heads, window)
        self.local_conv = ConvNorm(width, width, 3, groups=width)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._attend(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.local_conv(x)
        tokens = x.permute(0, 2, 3, 1)  # B, C, H, W -> B, H, W, C
        return (tokens + self.mlp(tokens)).permute(0, 3, 1, 2)

    def _attend(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same: split into windows (zero padded if they don't fit), attend, join."""
        batch, height, width, channels = x.shape
        size = self.window
        pad_y, pad_x = -height % size, -width % size
        if pad_y or pad_x:
            x = F.pad(x, (0, 0, 0, pad_x, 0, pad_y))
        rows, columns = (height + pad_y) // size, (width + pad_x) // size
        x = x.reshape(batch, rows, size, columns, size, channels).transpose(2, 3)
        x = self.attn(x.reshape(batch * rows * columns, size * size, channels))
        x = x.reshape(batch, rows, columns, size, size, channels).transpose(2, 3)
        x = x.reshape(batch, rows * size, columns * size, channels)
        return x[:, :height, :width] if pad_y or pad_x else x


class Stage(nn.Module):
    """Blocks of one width, then patch merging (none after the last stage)."""

    def __init__(self, blocks: list[nn.Module], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class TinyViT(nn.Module):
    """TinyViT-5M with SAM's neck. (B, 3, S, S) -> (B, 256, S / stride, S / stride).

    Strides 2, 2, 1 follow the stages, so the embedding is S / 4 behind the `full` stem and S / 16
    behind the `light` one.
    """

    def __init__(self, stem: Stem) -> None:
        super().__init__()
        self.stem = stem
        self.stride = 4 if stem == "full" else 16
        first = WIDTHS[0]
        kernel, stride = (1, 1) if stem == "full" else (3, 2)
        self.patch_embed = nn.Sequential(
            ConvNorm(3, first // 2, kernel, stride),
            nn.GELU(),
            ConvNorm(first // 2, first, kernel, stride),
        )
        self.layers = nn.ModuleList(_stage(index, stem) for index in range(len(WIDTHS)))
        channels = EMBEDDING_CHANNELS
        self.neck = nn.Sequential(
            nn.Conv2d(WIDTHS[-1], channels, 1, bias=False),
            ChannelNorm(channels, eps=1e-6),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            ChannelNorm(channels, eps=1e-6),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x.contiguous(memory_format=torch.channels_last))
        for stage in self.layers:
            x = stage(x)
        return self.neck(x)


def _stage(index: int, stem: Stem) -> Stage:
    width, depth = WIDTHS[index], DEPTHS[index]
    last = index == len(WIDTHS) - 1
    merging = None if last else PatchMerging(width, WIDTHS[index + 1], 1 if index == 2 else 2)
    if index == 0:
        return Stage([ConvBlock(width) for _ in range(depth)], merging)
    window = WINDOWS[stem][index - 1]
    return Stage([TinyViTBlock(width, HEADS[index], window) for _ in range(depth)], merging)
