"""Deep supervision: the student's stages are regressed on the teacher's through projections.

This is the term of `distill`: for two encoders of any widths with as many levels, on the grid of the
cache, from which the teacher is read. `deep_supervision` has UniUltra's own losses, for a teacher that
runs beside a student whose levels have its shapes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samling.distillation.cache import to_grid


class Projections(nn.Module):
    """A 1x1 convolution per level, from the student's width to the teacher's; thrown away afterwards.

    Args:
        student, teacher: channels of their levels, from fine to coarse.

    Raises:
        ValueError: they have different numbers of levels.
    """

    def __init__(self, student: Sequence[int], teacher: Sequence[int]) -> None:
        super().__init__()
        pairs = zip(student, teacher, strict=True)
        self.levels = nn.ModuleList(nn.Conv2d(own, wanted, 1) for own, wanted in pairs)

    def forward(self, levels: Sequence[Tensor], grid: int) -> Tensor:
        """Levels (B, c, h, w) -> (B, sum of the teacher's channels, grid, grid)."""
        return join(
            [project(to_grid(x, grid)) for project, x in zip(self.levels, levels, strict=True)],
            grid,
        )


def join(levels: Sequence[Tensor], grid: int) -> Tensor:
    """Levels of any size, brought to one grid and concatenated along their channels."""
    return torch.cat([to_grid(level, grid) for level in levels], dim=1)


def level_term(student: Tensor, teacher: Tensor, widths: Sequence[int]) -> Tensor:
    """Sum over levels of the mean squared error, in units of the teacher's variance at that level.

    UniUltra's loss as released sums plain errors (`deep_supervision.pyramid_terms`: levels of one width
    behind an FPN); stages of a ViT differ in scale by orders of magnitude, so each is divided by what
    it varies.

    Args:
        student, teacher: (B, sum of `widths`, g, g), see `join`.
    """
    terms = [
        F.mse_loss(own, wanted) / wanted.var().clamp(min=1e-6)
        for own, wanted in zip(
            student.split(list(widths), dim=1), teacher.split(list(widths), dim=1), strict=True
        )
    ]
    return torch.stack(terms).sum()
