"""Deep supervision: the student's levels are regressed on the teacher's, through projections, on one grid.

UniUltra (DSKD, arXiv 2511.15771) has two forms, and they differ only in what a level hands over. As
released: its *output* (of SAM 2 the feature pyramid). As drawn in the paper: its *parts*, what block
and adapter give at the three finest levels, each alone and together, behind the neck (`split_level`).
The loss is the same, `level_term`. Their teacher and student have 256 channels at every level; where
widths differ a 1x1 convolution leads from one to the other, and the teacher may come from a cache.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

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

    UniUltra sums plain errors; stages of a ViT differ in scale by orders of magnitude, so each is
    divided by what it varies.

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


def paired_levels(student: Sequence[int], teacher: Sequence[int]) -> list[int] | None:
    """Which of the teacher's levels teaches each of the student's; None if they cannot be paired.

    As many levels: one by one. Else the deepest of the teacher's levels on the same stride.

    Args:
        student, teacher: pixels per cell of their levels, from fine to coarse.

    >>> paired_levels((4, 8), (4, 8, 16, 16)), paired_levels((16,), (4, 8, 16, 16))
    ([0, 1], [3])
    """
    if len(student) == len(teacher):
        return list(range(len(student))) or None
    found = [[i for i, other in enumerate(teacher) if other == stride] for stride in student]
    return [indices[-1] for indices in found] if found and all(found) else None


def split_level(
    together: Tensor, adapter: Tensor, neck: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """What a level gives, divided: block alone, adapter alone, both. The block's share is the rest.

    Args:
        together: (B, C, h, w) output of the level's last block.
        adapter: (B, C, h, w) what its adapter added to it.
        neck: the level's lateral convolution, if its encoder has one.
    """
    return neck(together - adapter), neck(adapter), neck(together)


@contextmanager
def tap(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Within the block, a forward pass fills the table with what these modules gave."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            seen[name] = output

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
