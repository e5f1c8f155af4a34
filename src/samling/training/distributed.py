"""Several processes, one batch: `torchrun` gives the same training as one process, in less time.

Every process draws the same random numbers and sees the whole batch, encodes its own part of it, and gets
the others' encodings; prompts and decoding are done by all alike. So nothing in the objective knows of it,
and results differ by rounding alone. What is saved is the encoder's share of the time.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, cast

import torch
from torch import Tensor, distributed


@contextmanager
def together() -> Iterator[int]:
    """Join the other processes that torchrun started, if it did; gives the number of this one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield 0
        return
    # Optimisers import it at their first step, and what it imports keeps the process group that there is
    # at that moment: gloo's threads then outlive `destroy_process_group` and may abort Python as it ends
    import_module("torch._dynamo")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield distributed.get_rank()
    finally:
        distributed.destroy_process_group()


def world() -> int:
    """How many processes train together."""
    joined = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if joined else 1


def wait_for_others() -> None:
    """Until every process is here."""
    if world() > 1:
        distributed.barrier()


def own_rows(count: int) -> Tensor:
    """Rows of a batch of `count` that this process encodes: as many in every process.

    Where they do not divide, the last row is encoded by several; `gathered` drops the surplus.
    """
    if world() == 1:
        return torch.arange(count)
    share = -(-count // world())
    first = distributed.get_rank() * share
    return torch.arange(first, first + share).clamp(max=count - 1)


def gathered(part: Tensor, count: int) -> Tensor:
    """This process's rows (k, ...) -> those of all processes (count, ...).

    Gradients go back to the process's own rows, times the number of processes, because
    `average_gradients` divides by it.
    """
    if world() == 1:
        return part
    return cast(Tensor, _Gather.apply(part, count))  # type: ignore[no-untyped-call]


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace gradients by their mean over all processes; nothing to do in a single one."""
    if world() == 1:
        return
    for parameter in parameters:
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        distributed.all_reduce(gradient)
        parameter.grad = gradient / world()


class _Gather(torch.autograd.Function):
    """all_gather along the rows, with its gradient."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, count: int) -> Tensor:
        ctx.share, ctx.count = len(part), count
        sent = part.float().contiguous()  # gloo knows no bfloat16
        parts = [torch.empty_like(sent) for _ in range(world())]
        distributed.all_gather(parts, sent)
        return torch.cat(parts)[:count].to(part.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        own = gradient.new_zeros(ctx.share, *gradient.shape[1:])
        first = distributed.get_rank() * ctx.share
        rows = gradient[first : first + ctx.share]
        own[: len(rows)] = rows
        return own * world(), None
