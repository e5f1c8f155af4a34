"""predict_archive: what `samling archive` does, on threads here or on a Ray cluster."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from samling.inference.onnx_backend import usable_threads
from samling.inference.results import ResultFolder
from samling.recipes.archive import Archive, Task, in_threads, is_done, record, tasks_of
from samling.recipes.cluster import Row, on_ray
from samling.recipes.identity import fingerprint
from samling.recipes.load import load
from samling.recipes.predict import PredictOptions, Run, is_image, refuse_own_folder
from samling.recipes.prompt_source import prompt_source
from samling.recipes.remarks import on_nothing, on_sureness


@dataclass(frozen=True)
class ArchiveSummary:
    """What became of an archive."""

    out: Path
    counts: dict[str, int]
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether any image is set aside, or was left for another run."""
        return self.counts["failed"] + self.counts["open"] > 0

    def __str__(self) -> str:
        found = self.counts
        text = f"{found['done']} done, {found['objects']} objects, in {self.out}"
        text += "".join(f"\nnote: {note}" for note in self.notes)
        if found["failed"]:
            text += f"\nfailed: {found['failed']}, see manifest.csv"
        if found["open"]:
            text += f"\nopen: {found['open']}, for want of memory; run it again, with more of it"
        return text


@dataclass(frozen=True)
class Job:
    """Everything that a worker, here or elsewhere, needs to know; plain values only."""

    model: str
    out: str
    boxes: tuple[tuple[float, ...], ...] = ()
    points: tuple[tuple[float, ...], ...] = ()
    prompts_file: str | None = None
    auto: bool = False
    window: str | None = None
    runtime: str | None = None


class Worker:
    """Loads the model once, then does one task after the other, each with one thread."""

    def __init__(self, job: Job) -> None:
        self.out = Path(job.out)
        self.options = PredictOptions(job.window, runtime=job.runtime)
        loaded = load(job.model, job.runtime, threads=1)
        self.notes = on_sureness(job.model, loaded.card, job.window)
        self.segmenter = self.options.windowed(loaded)
        prompts = None if job.prompts_file is None else Path(job.prompts_file)
        self.source = prompt_source(self.segmenter.card, job.boxes, job.points, prompts, job.auto)
        for asked in self.source.common or ():
            self.segmenter.require(asked.prompt)

    def __call__(self, task: Task) -> None:
        """One image, whole or not at all, and its record; unless another process was faster."""
        if is_done(self.out, task):
            return
        results = ResultFolder(self.out, self.segmenter.card.classes)
        run = Run(self.segmenter, self.source, self.options, results, [], [])
        record(self.out, task, results, lambda: run.predict_file(Path(task.path), task.stem))


def predict_archive(job: Job, inputs: Sequence[Path], *, ray: bool = False) -> ArchiveSummary:
    """Segment very many images; run again after an interruption, it goes on where it was.

    A result depends on its image and the job alone. An image that cannot be used is set aside with
    its reason, and the others are done.

    Args:
        inputs: images, and folders with the folders in them.
        ray: on the processors of a Ray cluster, which see the same files under the same names.

    Raises:
        InputError: wrong use, another job's folder, or the results cannot be written.
    """
    out = Path(job.out)
    refuse_own_folder(out, [path / "any" if path.is_dir() else path for path in inputs])
    worker = Worker(job)
    card = worker.segmenter.card.model_dump(mode="json")
    archive = Archive(out, {"card": card, "weights": fingerprint(job.model), **_asked(job)})
    own = out.resolve()
    tasks = tasks_of(inputs, lambda p: not p.resolve().is_relative_to(own) and is_image(p))
    todo = archive.open_tasks(tasks)
    with archive.at_work():
        try:
            if ray and todo:
                on_ray(_RayWorker, (job,), [asdict(task) for task in todo], "predicting", "images")
            else:
                in_threads(todo, worker, usable_threads())
        finally:
            counts = archive.write_tables(tasks)
    archive.sweep()
    notes = [*worker.notes, *on_nothing(counts["nothing"])]
    return ArchiveSummary(out, counts, tuple(notes))


def _asked(job: Job) -> dict[str, Any]:
    """What results depend on beside model and image; of a prompt file its content."""
    file = job.prompts_file
    content = None if file is None else Path(file).read_text(encoding="utf-8-sig")
    asked = {"boxes": job.boxes, "points": job.points, "auto": job.auto, "window": job.window}
    return {**asked, "prompts": content, "runtime": job.runtime}


class _RayWorker:
    """A worker as a cluster wants it: rows in, rows out."""

    def __init__(self, job: Job) -> None:
        self._worker = Worker(job)

    def __call__(self, row: Row) -> Row:
        self._worker(Task(**row))
        return row
