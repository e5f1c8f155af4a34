"""Deep-supervised distillation, DSKD (UniUltra, arXiv 2511.15771): every level learns from its teacher's.

The released loss regresses the feature pyramid (`pyramid_terms`); the one drawn in the paper regresses
what block and adapter give at three levels, each alone and together (`split_terms`). Behind the neck
teacher and student have the same number of channels and the same grids, so nothing stands between them.
Encoders that differ in either, or a cached teacher, take `distillation.deep`, which `distill` uses.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F


class Level(NamedTuple):
    """What one level gives, behind the neck: (B, C, h, w) each."""

    block: Tensor
    """The last block of the level without its adapter."""
    adapter: Tensor
    """That adapter alone."""
    together: Tensor
    """What goes on to the next level."""


def pyramid_terms(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> dict[str, Tensor]:
    """Mean squared error of every level of the pyramid, and `total`, their sum with equal weights.

    Args:
        student, teacher: (B, C, h, w) each, from fine to coarse, of the same shapes.

    Raises:
        ValueError: the levels do not match.
    """
    terms = {
        f"level{i}": _error(s, t) for i, (s, t) in enumerate(zip(student, teacher, strict=True))
    }
    return terms | {"total": sum_of(terms)}


def split_terms(student: Sequence[Level], teacher: Sequence[Level]) -> dict[str, Tensor]:
    """Mean squared errors of block, adapter and both together, each summed over the levels; `total`.

    Raises:
        ValueError: the levels do not match.
    """
    pairs = list(zip(student, teacher, strict=True))
    terms = {
        name: sum_of({str(i): _error(s[k], t[k]) for i, (s, t) in enumerate(pairs)})
        for k, name in enumerate(Level._fields)
    }
    return terms | {"total": sum_of(terms)}


def split_level(together: Tensor, adapter: Tensor, neck: Callable[[Tensor], Tensor]) -> Level:
    """What a level gives, divided: the block's share is the rest.

    Args:
        together: (B, H, W, C) output of the level's last block.
        adapter: (B, H, W, C) what its adapter added to it.
        neck: the level's lateral convolution, (B, C, H, W) -> (B, 256, H, W).
    """
    # B, H, W, C -> B, C, H, W
    whole, part = together.permute(0, 3, 1, 2), adapter.permute(0, 3, 1, 2)
    return Level(neck(whole - part), neck(part), neck(whole))


@contextmanager
def tap(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Within the block, a forward pass of `model` fills the table with what these modules gave."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            seen[name] = output

        return hook

    handles = [model.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def sum_of(terms: dict[str, Tensor]) -> Tensor:
    """Σ of the terms, with equal weights."""
    return sum(terms.values(), start=next(iter(terms.values())).new_zeros(()))


def _error(student: Tensor, teacher: Tensor) -> Tensor:
    if student.shape != teacher.shape:
        shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        raise ValueError(f"student and teacher differ in shape: {shapes}")
    return F.mse_loss(student.float(), teacher.detach().float())
