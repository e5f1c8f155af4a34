"""BoxMap: where the box of a prompt lies, drawn on the grids that masks are made on."""

import torch
from torch import Tensor, nn

from samling.prompts.prompt import Token

FEATURES = 7
GAIN = 8.0
"""Features in -8 to 8: weights that begin at zero would need many more steps to count otherwise."""


class BoxMap(nn.Module):
    """What a box adds to the decoder's image at strides 16, 8 and 4; nothing at first.

    SAM tells its decoder of a box by two tokens, and the outline is found on 16 x 16 cells. Drawn
    beside the image, the box and the ellipse in it are known to a fraction of a cell of every grid.

    Args:
        input_size: side of the model's square in pixels.
        coarsest: side of the embedding in cells; every further grid is twice as fine.
        widths: channels of the grids, from coarse to fine.
    """

    def __init__(self, input_size: int, coarsest: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.input_size, self.coarsest = input_size, coarsest
        self.levels = nn.ModuleList(nn.Conv2d(FEATURES, width, 1) for width in widths)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, coords: Tensor, labels: Tensor) -> list[Tensor]:
        """(N, T, 2) pixel indices and (N, T) token labels -> (N, width, s, s) each; 0 without a box."""
        first, last = labels == Token.TOP_LEFT, labels == Token.BOTTOM_RIGHT
        start = (coords * first.unsqueeze(-1)).sum(1)
        end = (coords * last.unsqueeze(-1)).sum(1) + 1  # the box ends behind its last pixel
        there = last.any(1).view(-1, 1, 1, 1)
        return [
            level(self.features(start, end, self.coarsest << k)) * there
            for k, level in enumerate(self.levels)
        ]

    def features(self, start: Tensor, end: Tensor, side: int) -> Tensor:
        """Corners (N, 2) in pixels -> (N, FEATURES, side, side), each between -GAIN and GAIN.

        GAIN times tanh of: x and y from the centre in halves of the box, and x² + y²; the distance to the
        ellipse in the box (to first order) and to the box, positive inside, in cells and in four cells.
        """
        cell = self.input_size / side
        axis = (torch.arange(side, device=start.device) + 0.5) * cell
        centre, half = (start + end) / 2, ((end - start) / 2).clamp(min=0.5)
        x, y = (axis - centre[:, :1]).unsqueeze(1), (axis - centre[:, 1:]).unsqueeze(2)
        across, down = half[:, :1].unsqueeze(1), half[:, 1:].unsqueeze(2)
        u, v = (x / across).expand(-1, side, -1), (y / down).expand(-1, -1, side)
        squared = u**2 + v**2
        slope = 2 * ((u / across) ** 2 + (v / down) ** 2).sqrt()
        ellipse = (1 - squared) / slope.clamp(min=1e-3) / cell
        box = torch.minimum(across - x.abs(), down - y.abs()) / cell
        near = [distance / scale for distance in (ellipse, box) for scale in (1, 4)]
        return GAIN * torch.tanh(torch.stack([u, v, squared, *near], dim=1))
