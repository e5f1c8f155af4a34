"""TinyViT image encoder (Wu et al., ECCV 2022, arXiv 2207.10666) in several shapes, with SAM's neck."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from samling.models.contract import Site, Sites

EMBEDDING_CHANNELS = 256
MLP_RATIO = 4


@dataclass(frozen=True)
class Shape:
    """Dimensions of an encoder of four stages; the defaults are TinyViT-5M's widths and depths.

    Args:
        patch: stride of the stem, 1 or 4.
        merging: stride behind stages 0, 1 and 2.
        windows: attention windows of stages 1 to 3; a grid they do not divide is padded.
        skips: whether features of a finer grid go to the mask decoder, see `Sam`.
    """

    patch: int
    windows: tuple[int, int, int]
    widths: tuple[int, int, int, int] = (64, 128, 160, 320)
    depths: tuple[int, int, int, int] = (2, 2, 6, 2)
    heads: tuple[int, int, int, int] = (2, 4, 5, 10)
    merging: tuple[int, int, int] = (2, 2, 1)
    skips: bool = False

    @property
    def stride(self) -> int:
        """Pixels per cell of the embedding."""
        return self.patch * math.prod(self.merging)


SHAPES = {
    "full": Shape(patch=1, windows=(7, 14, 7)),
    "light": Shape(patch=4, windows=(8, 16, 8)),
    "lean": Shape(patch=4, windows=(8, 16, 8), depths=(1, 1, 6, 2), skips=True),
    "lean-bare": Shape(patch=4, windows=(8, 16, 8), depths=(1, 1, 6, 2)),
    "fine": Shape(patch=4, windows=(8, 16, 8), depths=(1, 1, 6, 2), merging=(2, 1, 1)),
    "tiny": Shape(
        patch=4,
        windows=(8, 16, 8),
        widths=(32, 64, 96, 128),
        depths=(1, 1, 4, 1),
        heads=(1, 2, 3, 4),
        skips=True,
    ),
    "mobile": Shape(patch=4, windows=(7, 14, 7)),
}
"""Encoders by name, with their GFLOPs at 256 px.

`full` (75): LiteMedSAM's, a 64x64 embedding. `light` (4.7): TinyViT-5M behind a stem of stride 4, a 16x16
embedding, windows that divide its grids. `lean` (4.0): one block less at the two finest stages, and
skips; `lean-bare`: without skips. `fine`: a 32x32 embedding. `tiny`: 1.4 M weights. `mobile` (78 at its
1,024 px): MobileSAM's."""


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
        if q.requires_grad and not q.is_cuda:
            # The backward pass of PyTorch's fused CPU kernel takes five times as long as this one's
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + bias
            out = scores.softmax(-1) @ v
        else:
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

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the blocks give, and the same behind patch merging."""
        for block in self.blocks:
            x = block(x)
        return x, x if self.downsample is None else self.downsample(x)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class TinyViT(nn.Module):
    """Four stages and SAM's neck. (B, 3, S, S) -> (B, 256, S / stride, S / stride).

    Args:
        shape: see `SHAPES`.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape, self.stride, self.multiple = shape, shape.stride, shape.stride
        self.level_widths = shape.widths
        self.level_strides = tuple(
            shape.patch * math.prod(shape.merging[:stage]) for stage in range(len(shape.widths))
        )
        self.skip_widths = shape.widths[:2] if shape.skips else ()
        first = shape.widths[0]
        kernel, stride = (1, 1) if shape.patch == 1 else (3, 2)
        self.patch_embed = nn.Sequential(
            ConvNorm(3, first // 2, kernel, stride),
            nn.GELU(),
            ConvNorm(first // 2, first, kernel, stride),
        )
        self.layers = nn.ModuleList(_stage(index, shape) for index in range(len(shape.widths)))
        channels = EMBEDDING_CHANNELS
        self.neck = nn.Sequential(
            nn.Conv2d(shape.widths[-1], channels, 1, bias=False),
            ChannelNorm(channels, eps=1e-6),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            ChannelNorm(channels, eps=1e-6),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.levels(x)[-1]

    def levels(self, x: Tensor) -> list[Tensor]:
        """What the blocks of the four stages give, from fine to coarse, and the embedding last."""
        x = self.patch_embed(x.contiguous(memory_format=torch.channels_last))
        found = []
        for stage in self.layers:
            level, x = stage(x)
            found.append(level)
        return [*found, self.neck(x)]

    def lateral(self, level: int) -> nn.Module:
        """What stands between a level and whoever compares it: nothing."""
        return nn.Identity()

    def sites(self, name: str) -> Sites:
        """`block`: every block; `conv`: MBConv bodies of stage 0; `attention` and `mlp` of the others."""
        sites: Sites = {"block": [], "conv": [], "attention": [], "mlp": []}
        for stage, (width, depth) in enumerate(
            zip(self.shape.widths, self.shape.depths, strict=True)
        ):
            for index in range(depth):
                path = f"{name}.layers.{stage}.blocks.{index}"
                sites["block"].append(Site(path, width, stage, channels_first=True))
                if stage == 0:
                    sites["conv"].append(Site(f"{path}.body", width, stage, channels_first=True))
                    continue
                sites["attention"].append(Site(f"{path}.attn", width, stage))
                sites["mlp"].append(Site(f"{path}.mlp", width, stage))
        return sites


def _stage(index: int, shape: Shape) -> Stage:
    width, depth = shape.widths[index], shape.depths[index]
    last = index == len(shape.widths) - 1
    merging = None if last else PatchMerging(width, shape.widths[index + 1], shape.merging[index])
    if index == 0:
        return Stage([ConvBlock(width) for _ in range(depth)], merging)
    heads, window = shape.heads[index], shape.windows[index - 1]
    return Stage([TinyViTBlock(width, heads, window) for _ in range(depth)], merging)
