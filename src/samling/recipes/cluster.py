"""cluster: the same work on the processors of a Ray cluster, row by row."""

import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from samling.cache import cache_folder
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
        InputError: Ray is not installed, or a worker failed.
    """
    try:
        import ray
        from ray.exceptions import RayError
    except ModuleNotFoundError:
        remedy = "pip install '.[cluster]', or leave --ray out"
        raise InputError("--ray", "Ray is not installed", remedy) from None
    if not ray.is_initialized():
        own = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
        stop = signal.getsignal(signal.SIGTERM)
        ray.init(log_to_driver=False, **({} if "RAY_ADDRESS" in os.environ else own))
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, stop)  # Ray takes it
    ray.data.DataContext.get_current().enable_progress_bars = False  # `track` shows it
    workers = max(1, min(len(rows), int(ray.cluster_resources().get("CPU", 1))))
    # Scheduling a block costs as much as an image; what a dead worker had done of its block is kept
    blocks = min(len(rows), max(_BLOCKS_A_WORKER * workers, len(rows) // _MOST_IN_A_BLOCK))
    waiting = ray.data.from_items(list(rows), override_num_blocks=blocks)
    whole = (worker, given, str(Path.cwd()), {"SAMLING_CACHE": str(cache_folder().absolute())})
    done = waiting.map(_Here, fn_constructor_args=whole, num_cpus=1, concurrency=workers)
    try:
        for _ in track(done.iter_rows(), title, unit, len(rows)):
            pass
    except RayError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1][:300]
        remedy = "mend that, see that all machines see the same files, or leave --ray out"
        raise InputError("--ray", f"a worker failed ({reason})", remedy) from error


class _Here:
    """A worker that finds relative paths and the cache where the command was given."""

    def __init__(
        self,
        worker: Callable[..., Callable[[Row], Row]],
        given: tuple[Any, ...],
        folder: str,
        environment: dict[str, str],
    ) -> None:
        os.chdir(folder)
        os.environ.update(environment)
        self._worker = worker(*given)

    def __call__(self, row: Row) -> Row:
        return self._worker(row)
