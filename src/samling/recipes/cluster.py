"""cluster: the same work on the processors of a Ray cluster, row by row."""

import os
from collections.abc import Callable, Sequence
from typing import Any

from samling.errors import InputError
from samling.recipes.progress import track

Row = dict[str, Any]
_OBJECT_STORE_BYTES = 200 << 20  # rows are names and numbers
_BLOCKS_A_WORKER, _MOST_IN_A_BLOCK = 16, 64


def on_ray(
    worker: Callable[..., Callable[[Row], Row]],
    given: tuple[Any, ...],
    rows: Sequence[Row],
    title: str,
    unit: str,
) -> None:
    """Hand rows to workers with one processor each; rows wait in the cluster until one is free.

    A row may be done twice, because a worker died over it: doing it again must leave the same.

    Args:
        worker: a class; `given` makes one, which is called with a row.
        given: plain values.
        rows: plain values, too.
        title, unit: of the progress, e.g. "predicting", "images".

    Raises:
        InputError: Ray is not installed.
    """
    try:
        import ray
    except ModuleNotFoundError:
        remedy = "pip install '.[cluster]', or leave --ray out"
        raise InputError("--ray", "Ray is not installed", remedy) from None
    if not ray.is_initialized():
        own = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
        ray.init(log_to_driver=False, **({} if "RAY_ADDRESS" in os.environ else own))
    ray.data.DataContext.get_current().enable_progress_bars = False  # `track` shows it
    workers = max(1, min(len(rows), int(ray.cluster_resources().get("CPU", 1))))
    # Scheduling a block costs as much as an image; what a dead worker had done of its block is kept
    blocks = min(len(rows), max(_BLOCKS_A_WORKER * workers, len(rows) // _MOST_IN_A_BLOCK))
    waiting = ray.data.from_items(list(rows), override_num_blocks=blocks)
    done = waiting.map(worker, fn_constructor_args=given, num_cpus=1, concurrency=workers)
    for _ in track(done.iter_rows(), title, unit, len(rows)):
        pass
