"""DeepLabv3+ (Chen et al. 2018) on a ResNet-18 without pretraining, output stride 16."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RATES = (6, 12, 18)
LOW_LEVEL = 48
"""Channels of the fine features in the decoder, section 4.1 of the paper."""


class DeepLabV3Plus(nn.Module):
    """(B, C, H, W) -> (B, 1, H, W) logits; H and W multiples of 16.

    Args:
        channels: of the input.
        width: of the first stage; ResNet-18 has 64. ASPP and decoder are 4 times as wide.
    """

    def __init__(self, channels: int, width: int = 64) -> None:
        super().__init__()
        wide = 4 * width
        self.stem = nn.Sequential(*_conv(channels, width, 7, stride=2), nn.MaxPool2d(3, 2, 1))
        self.fine = _stage(width, width, 1, 1)
        self.coarse = nn.Sequential(
            _stage(width, 2 * width, 2, 1),
            _stage(2 * width, 4 * width, 2, 1),
            _stage(4 * width, 8 * width, 1, 2),  # dilated instead of strided
        )
        self.context = ContextPyramid(8 * width, wide)
        self.low_level = nn.Sequential(*_conv(width, LOW_LEVEL, 1))
        self.decode = nn.Sequential(
            *_conv(wide + LOW_LEVEL, wide, 3), *_conv(wide, wide, 3), nn.Conv2d(wide, 1, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(self.stem(x))
        context = self.context(self.coarse(fine))
        context = F.interpolate(context, scale_factor=4, mode="bilinear")
        logits = self.decode(torch.cat([context, self.low_level(fine)], 1))
        return F.interpolate(logits, scale_factor=4, mode="bilinear")


class ContextPyramid(nn.Module):
    """Atrous spatial pyramid pooling: a point, three rates, and the whole image."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList([nn.Sequential(*_conv(before, after, 1))])
        for rate in RATES:
            self.branches.append(nn.Sequential(*_conv(before, after, 3, dilation=rate)))
        # No batch norm here: one value per image and channel, and a batch may be one image
        self.whole = nn.Sequential(nn.Conv2d(before, after, 1), nn.ReLU(inplace=True))
        self.join = nn.Sequential(*_conv(5 * after, after, 1), nn.Dropout2d(0.1))

    def forward(self, x: Tensor) -> Tensor:
        whole = self.whole(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        return self.join(torch.cat([*(branch(x) for branch in self.branches), whole], 1))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside the identity (He et al. 2016)."""

    def __init__(self, before: int, after: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.first = nn.Sequential(*_conv(before, after, 3, stride=stride, dilation=dilation))
        self.second = nn.Sequential(*_conv(after, after, 3, dilation=dilation)[:-1])
        same = before == after and stride == 1
        self.skip = (
            nn.Identity() if same else nn.Sequential(*_conv(before, after, 1, stride=stride)[:-1])
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(self.first(x)) + self.skip(x))


def _stage(before: int, after: int, stride: int, dilation: int) -> nn.Sequential:
    return nn.Sequential(
        BasicBlock(before, after, stride, dilation), BasicBlock(after, after, 1, dilation)
    )


def _conv(
    before: int, after: int, kernel: int, *, stride: int = 1, dilation: int = 1
) -> list[nn.Module]:
    padding = dilation * (kernel // 2)
    return [
        nn.Conv2d(before, after, kernel, stride, padding, dilation, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    ]
