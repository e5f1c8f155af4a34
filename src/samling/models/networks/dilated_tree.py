"""Dilated convolutions of stacked tree aggregation (Gao et al., Acta Optica Sinica 41(18), 1810002, 2021).

The abstract names the parts: a residual dense module in the encoder, a dilated module of stacked tree
aggregation between encoder and decoder against the checkerboard of plain dilation, a weighted loss.
Widths, rates and depth are not in it: those here are ours, after deep aggregation (Yu et al. 2018).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RATES = (1, 2, 3, 5)
"""Of the leaves; without a common factor, so that together they miss no pixel (Wang et al. 2018)."""
LEVELS = 4


class DilatedTree(nn.Module):
    """(B, C, H, W) -> (B, 1, H, W) logits; H and W multiples of 8.

    Args:
        channels: of the input.
        width: of the first level, doubled at each of four.
    """

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS)]
        before = [channels, *widths[:-1]]
        self.down = nn.ModuleList(ResidualDense(a, b) for a, b in zip(before, widths, strict=True))
        self.trees = nn.ModuleList(nn.Sequential(Tree(w), Tree(w)) for w in widths)
        pairs = list(zip(widths[1:], widths, strict=False))
        self.up = nn.ModuleList(_conv(deep + fine, fine, 3) for deep, fine in reversed(pairs))
        self.last = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        levels = []
        for number, (block, tree) in enumerate(zip(self.down, self.trees, strict=True)):
            x = block(F.max_pool2d(x, 2) if number else x)
            levels.append(tree(x))
        x = levels.pop()
        for up in self.up:
            x = F.interpolate(x, scale_factor=2, mode="bilinear")
            x = up(torch.cat([x, levels.pop()], 1))
        return self.last(x)


class ResidualDense(nn.Module):
    """Three densely connected layers, joined by a point convolution, beside the input."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.enter = _conv(before, after, 1)
        half = max(1, after // 2)
        self.layers = nn.ModuleList(_conv(after + half * i, half, 3) for i in range(3))
        self.join = nn.Conv2d(after + 3 * half, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        seen = [x]
        for layer in self.layers:
            seen.append(layer(torch.cat(seen, 1)))
        return F.relu(x + self.join(torch.cat(seen, 1)))


class Tree(nn.Module):
    """Leaves of four rates; neighbours meet in a 3 x 3 node, the two nodes in the root; and the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        leaf = max(1, width // 4)
        self.leaves = nn.ModuleList(_conv(width, leaf, 3, rate) for rate in RATES)
        self.nodes = nn.ModuleList(_conv(2 * leaf, 2 * leaf, 3) for _ in range(2))
        self.root = nn.Conv2d(4 * leaf, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        leaves = [leaf(x) for leaf in self.leaves]
        nodes = [node(torch.cat(leaves[2 * i : 2 * i + 2], 1)) for i, node in enumerate(self.nodes)]
        return F.relu(x + self.root(torch.cat(nodes, 1)))


def _conv(before: int, after: int, kernel: int, rate: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, 1, rate * (kernel // 2), rate, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )
