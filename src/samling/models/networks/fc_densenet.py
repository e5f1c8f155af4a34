"""FC-DenseNet, the one hundred layers Tiramisu (Jégou et al. 2017)."""

import torch
from torch import Tensor, nn

DROPOUT = 0.2


class FCDenseNet(nn.Module):
    """(B, C, H, W) -> (B, 1, H, W) logits; H and W multiples of 2 to the number of levels.

    Args:
        channels: of the input.
        growth: channels that each layer adds (the paper: 12 or 16).
        first: channels of the first convolution (the paper: 48).
        layers: per dense block on the way down, from the top.
        bottleneck: layers of the block between.
        classes: channels of the output.
    """

    def __init__(
        self,
        channels: int,
        growth: int = 12,
        first: int = 48,
        layers: tuple[int, ...] = (4, 4, 4, 4, 4),
        bottleneck: int = 4,
        classes: int = 1,
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, first, 3, 1, 1)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        width, skips = first, []
        for count in layers:
            self.down.append(DenseBlock(width, growth, count))
            width += growth * count
            skips.append(width)
            self.shrink.append(_shrink(width))
        self.middle = DenseBlock(width, growth, bottleneck)
        self.grow, self.up = nn.ModuleList(), nn.ModuleList()
        new = growth * bottleneck
        for skip, count in zip(reversed(skips), reversed(layers), strict=True):
            self.grow.append(nn.ConvTranspose2d(new, new, 3, 2, 1, output_padding=1))
            width, new = new + skip, growth * count
            self.up.append(DenseBlock(width, growth, count))
        self.last = nn.Conv2d(width + new, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        skips = []
        for block, shrink in zip(self.down, self.shrink, strict=True):
            x = torch.cat([x, block(x)], 1)
            skips.append(x)
            x = shrink(x)
        new = self.middle(x)
        for grow, block in zip(self.grow, self.up, strict=True):
            x = torch.cat([grow(new), skips.pop()], 1)
            new = block(x)  # only what is new goes on: or the widths would explode (section 3.1)
        return self.last(torch.cat([x, new], 1))


class DenseBlock(nn.Module):
    """(B, C, h, w) -> (B, growth * count, h, w): every layer sees all before it."""

    def __init__(self, width: int, growth: int, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(width + growth * i),
                nn.ReLU(inplace=True),
                nn.Conv2d(width + growth * i, growth, 3, 1, 1),
                nn.Dropout2d(DROPOUT),
            )
            for i in range(count)
        )

    def forward(self, x: Tensor) -> Tensor:
        new: list[Tensor] = []
        for layer in self.layers:
            new.append(layer(torch.cat([x, *new], 1)))
        return torch.cat(new, 1)


def _shrink(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 1),
        nn.Dropout2d(DROPOUT),
        nn.MaxPool2d(2),
    )
