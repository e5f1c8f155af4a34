"""archive: `predict` over very many images. Resumable, each result once, faults set aside.

Every image has a record, OUT/records/ab/abc….json, written after its mask and overlay and only then:
whoever finds a record need not look at the image again. No table grows in memory and no file is
shared, so threads, processes and machines may work on one folder.
"""

import csv
import fcntl
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from random import SystemRandom
from typing import Any

from samling.atomic import atomic_path, write_text
from samling.errors import InputError
from samling.inference.results import COLUMNS, ResultFolder
from samling.recipes.progress import track

RECORDS, JOB, MANIFEST, LOCK = "records", "job.json", "manifest.csv", ".lock"
_MANIFEST_COLUMNS = ("file", "status", "objects", "error")
_LIKE_A_FRAME = re.compile(r"_f\d+(_overlay)?$", re.IGNORECASE)
"""Frames of a loop get such names; an image of that name gets another."""
_STEM_BYTES = 160
"""Leaves room for the number of a name, of a frame, and endings; below what `reserve` would cut."""
Work = Callable[["Task"], None]


@dataclass(frozen=True)
class Task:
    """One image of an archive.

    Args:
        path: where it is.
        label: its path from the folder that was given, with slashes; its name in every table.
        stem: name of its results, unique in the archive.
    """

    path: str
    label: str
    stem: str

    @property
    def record(self) -> str:
        """Name of its record below RECORDS: of what it is called and of its size and time."""
        try:
            state = Path(self.path).stat()
            version = f"{state.st_size}|{state.st_mtime_ns}"
        except OSError:
            version = "missing"
        name = hashlib.sha256(f"{self.stem}|{self.label}|{version}".encode()).hexdigest()[:32]
        return f"{name[:2]}/{name}.json"


def tasks_of(inputs: Sequence[Path], wanted: Callable[[Path], bool]) -> list[Task]:
    """Every wanted file, in folders and the folders in them, in an order that does not change.

    Raises:
        InputError: there is none.
    """
    names = ResultFolder("")
    tasks: dict[str, Task] = {}
    for given in inputs:
        files = sorted(p for p in given.rglob("*") if p.is_file()) if given.is_dir() else [given]
        for path in files:
            if path.name.startswith(".") or (given.is_dir() and not wanted(path)):
                continue
            label = path.relative_to(given).as_posix() if given.is_dir() else path.name
            stem = _short("__".join(Path(label).with_suffix("").parts))
            stem += "_" * bool(_LIKE_A_FRAME.search(stem))
            key = str(path.resolve())
            if key not in tasks:
                tasks[key] = Task(str(path), label, names.reserve(stem, (".png", "_overlay.png")))
    if not tasks:
        problem = "holds no PNG, JPEG, TIFF, BMP or DICOM file"
        raise InputError(inputs[0], problem, "name a folder with images")
    return list(tasks.values())


def _short(stem: str) -> str:
    """The stem; of a long one its beginning and a hash of the whole, so that it stays its own."""
    if len(stem.encode()) <= _STEM_BYTES:
        return stem
    tail = "-" + hashlib.sha256(stem.encode()).hexdigest()[:16]
    return stem.encode()[: _STEM_BYTES - len(tail)].decode(errors="ignore") + tail


class Archive:
    """The results of one job in one folder.

    Args:
        out: made if it is missing.
        job: what every result depends on; a folder of another job is refused.

    Raises:
        InputError: `out` belongs to another job or cannot be written.
    """

    def __init__(self, out: Path, job: dict[str, Any]) -> None:
        self.out = out
        path, text = out / JOB, json.dumps(job, indent=2, sort_keys=True) + "\n"
        try:
            if not path.exists():
                write_text(path, text)
            elif path.read_text(encoding="utf-8") != text:
                problem = "holds results of another model, other prompts or other options"
                raise InputError(
                    out, problem, "name another folder, or the same settings as before"
                )
        except OSError as error:
            problem = f"cannot be written ({error.strerror or error})"
            raise InputError(out, problem, "free space or name another folder") from error

    def open_tasks(self, tasks: Iterable[Task]) -> list[Task]:
        """Those without a record, from a random place on: processes on one folder share the work."""
        todo = [task for task in tasks if not is_done(self.out, task)]
        start = SystemRandom().randrange(len(todo)) if todo else 0
        return todo[start:] + todo[:start]

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """While any process is inside, `sweep` leaves the folder alone."""
        with (self.out / LOCK).open("w") as stream:
            with suppress(OSError):  # a file system without locks: `sweep` will not sweep there
                fcntl.flock(stream, fcntl.LOCK_SH)
            yield

    def write_tables(self, tasks: Sequence[Task]) -> dict[str, int]:
        """`results.csv`, rows as `ResultFolder` has them, and `manifest.csv` with one per image.

        Returns:
            How many images are done, failed and open, how many objects there are, and how many images
            (frames of loops) on which nothing was found.
        """
        counts = dict.fromkeys(("done", "failed", "open", "objects", "nothing"), 0)
        with (
            _table(self.out / "results.csv", COLUMNS) as results,
            _table(self.out / MANIFEST, _MANIFEST_COLUMNS) as manifest,
        ):
            for task in tasks:
                record = self._read(task)
                results.writerows(record["rows"])
                found = sum(row["object"] > 0 for row in record["rows"])
                status = record["status"]
                line = {"file": task.label, "status": status, "error": record["error"]}
                manifest.writerow(line | {"objects": found})
                counts[status] += 1
                counts["objects"] += found
                counts["nothing"] += len(record["rows"]) - found
        return counts

    def sweep(self) -> None:
        """Remove what killed writers left, unless others are still writing: the last one does it."""
        with (self.out / LOCK).open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return
            for leftover in self.out.rglob(".*.part"):
                leftover.unlink(missing_ok=True)

    def _read(self, task: Task) -> dict[str, Any]:
        path = self.out / RECORDS / task.record
        if not path.exists():
            return {"rows": [], "status": "open", "error": ""}
        return json.loads(path.read_text(encoding="utf-8"))


def is_done(out: Path, task: Task) -> bool:
    """Whether a task has its record."""
    return (out / RECORDS / task.record).exists()


def record(out: Path, task: Task, results: ResultFolder, predict: Callable[[], object]) -> None:
    """Do one task and write its record; a fault of the image is a result, too.

    Want of memory is none: it may be another program's doing. The task stays open for the next run.

    Raises:
        InputError: the results cannot be written.
    """
    status, fault = "done", ""
    try:
        with results.all_or_nothing(unless=lambda: is_done(out, task)):
            predict()
    except InputError as error:
        if Path(error.where).is_relative_to(out):
            raise
        if is_done(out, task):  # by another process, which fared better
            return
        status, fault = "failed", str(error)
    except MemoryError:
        return
    rows = [row | {"file": task.label} for row in results.rows]
    content = {"rows": rows, "status": status, "error": fault, "task": asdict(task)}
    write_text(out / RECORDS / task.record, json.dumps(content) + "\n")


def in_threads(tasks: Sequence[Task], work: Work, threads: int) -> None:
    """Work on several images at a time; while one is computed others are read and written.

    At most two tasks a thread are under way, so memory does not grow with the archive.
    """
    with ThreadPoolExecutor(threads) as pool:
        for _ in track(
            _bounded(pool, tasks, work, 2 * threads), "predicting", "images", len(tasks)
        ):
            pass


def _bounded(
    pool: ThreadPoolExecutor, tasks: Sequence[Task], work: Work, most: int
) -> Iterator[None]:
    rest, running = iter(tasks), set[Future[None]]()
    try:
        while True:
            for task in rest:
                running.add(pool.submit(work, task))
                if len(running) >= most:
                    break
            if not running:
                return
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for one in finished:
                yield one.result()
    finally:
        for one in running:
            one.cancel()


@contextmanager
def _table(path: Path, columns: Sequence[str]) -> Iterator["csv.DictWriter[str]"]:
    """A CSV file, whole or not at all, row by row."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        yield writer
