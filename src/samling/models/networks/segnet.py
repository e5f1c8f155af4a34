"""SegNet (Badrinarayanan et al. 2017): VGG-16 and its mirror; the decoder gets the places of the maxima."""

from itertools import pairwise

from torch import Tensor, nn

DEPTHS = (2, 2, 3, 3, 3)
"""Convolutions per stage, as VGG-16."""


class SegNet(nn.Module):
    """(B, C, H, W) -> (B, 1, H, W) logits; H and W multiples of 32.

    Args:
        channels: of the input.
        width: channels of the first stage; the paper has 64.
        classes: channels of the output.
    """

    def __init__(self, channels: int, width: int = 64, classes: int = 1) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width, 8 * width, 8 * width)
        before = (channels, *widths[:-1])
        self.down = nn.ModuleList(
            nn.Sequential(*_convs([first, *[out] * depth]))
            for first, out, depth in zip(before, widths, DEPTHS, strict=True)
        )
        after = (width, *widths[:-1])
        self.up = nn.ModuleList(
            nn.Sequential(*_convs([*[wide] * depth, last]))
            for wide, last, depth in reversed(list(zip(widths, after, DEPTHS, strict=True)))
        )
        self.up[-1] = nn.Sequential(*_convs([width, width]), nn.Conv2d(width, classes, 3, 1, 1))
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.unpool = nn.MaxUnpool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        places = []
        for stage in self.down:
            x, maxima = self.pool(stage(x))
            places.append(maxima)
        for stage, maxima in zip(self.up, reversed(places), strict=True):
            x = stage(self.unpool(x, maxima))
        return x


def _convs(widths: list[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, 1, 1), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return layers
