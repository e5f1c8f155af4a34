"""Progress on the error stream, for work that takes longer than two seconds."""

import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

Item = TypeVar("Item")

PATIENCE_S = 2.0


def track(items: Iterable[Item], doing: str, unit: str, total: int | None = None) -> Iterator[Item]:
    """Pass the items on; after two seconds show how many are done, the rate and the time left.

    Args:
        doing: what happens ("predicting"). unit: what the items are ("images").
        total: how many there are, or at most; None: as many as `items` says.
    """
    if total is None:
        total = len(items) if isinstance(items, Sized) else 0
    started = time.monotonic()
    rest = iter(items)
    done = 0
    while time.monotonic() - started < PATIENCE_S:
        try:
            item = next(rest)
        except StopIteration:
            return
        yield item
        done += 1
    yield from _with_bar(rest, doing, unit, total=total, done=done, started=started)


def _with_bar(
    rest: Iterator[Item], doing: str, unit: str, *, total: int, done: int, started: float
) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{{task.fields[rate]:.1f}} {unit}/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(doing, total=total, completed=done, rate=0.0)
        for item in rest:
            yield item
            done += 1
            rate = done / (time.monotonic() - started)
            bar.update(task, completed=done, rate=rate)
