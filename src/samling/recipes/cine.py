"""cine: a stream of frames segmented live: video, table, area curve, DICOM segmentation."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import samling
from samling.data.readers.bounds import kind_of, read_head
from samling.data.readers.cine import Cine, open_cine, watch
from samling.data.readers.dicom import read_header
from samling.errors import InputError
from samling.inference.arrays import point_prompt
from samling.inference.cine_results import CineFolder
from samling.inference.dicom_seg import Author, write_seg
from samling.inference.live import LiveFrame, LiveSegmenter
from samling.prompts.prompt import Prompt
from samling.recipes.load import load
from samling.recipes.progress import track

SEG, SEG_FRAMES_AT_MOST = "segmentation.dcm", 1_000


@dataclass(frozen=True)
class CineSummary:
    """What became of a stream.

    Args:
        rate: frames per second of the source; None: it has none, as a folder of pictures.
    """

    out: Path
    frames: int
    seconds: float
    rate: float | None

    def __str__(self) -> str:
        speed = self.frames / max(self.seconds, 1e-9)
        said = f"{self.frames} frames in {self.seconds:.1f} s, {speed:.1f} frames/s"
        if self.rate is not None:
            keeps = "keeps up with" if speed >= self.rate else "is slower than"
            said += f", which {keeps} the source's {self.rate:g}"
        return f"{said}; in {self.out}"


@dataclass(frozen=True)
class CineOptions:
    """What may be asked for beside the prompt.

    Args:
        watched: the source is a folder; wait for new images until none came for `idle_s` seconds.
        seg: also a DICOM segmentation of a DICOM source.
        runtime: of a bundle, see `load`.
    """

    watched: bool = False
    idle_s: float = 60.0
    seg: bool = False
    runtime: str | None = None


def cine(
    model: str,
    source: str,
    out: Path,
    box: Sequence[float] | None = None,
    points: Sequence[Sequence[float]] = (),
    options: CineOptions = CineOptions(),
) -> CineSummary:
    """Segment a stream while it runs.

    Args:
        source: see `data.readers.cine.open_cine`.
        box, points: of the first frame: one object, followed from frame to frame. Neither: automatic
            in every frame.

    Raises:
        InputError: wrong use, an unreadable source, one without the Hounsfield units that the model's
            window needs, or the results cannot be written.
    """
    segmenter = load(model, options.runtime)
    stream = _opened(source, options, hounsfield=segmenter.card.window_hu is not None)
    if options.seg:
        _check_seg(source, stream)
    prompt = _prompt(box, points)
    segmenter.require(prompt)
    live = LiveSegmenter(segmenter, prompt).stream(stream.frames)
    started = time.perf_counter()
    drawn: list[NDArray[np.uint8]] = []
    count = 0
    try:
        for frame in _written(live, stream, out, segmenter.card.classes):
            count += 1
            if options.seg:
                drawn.append(_union(frame))
    except KeyboardInterrupt:
        if not count:
            raise  # else a camera was stopped: what there is was written
    if not count:
        raise InputError(source, "gave no frame", "check the source")
    summary = CineSummary(out, count, time.perf_counter() - started, stream.rate)
    if options.seg:
        author = Author(segmenter.card.name, samling.__version__, not prompt.automatic)
        header, labels = read_header(source), np.stack(drawn)
        write_seg(out / SEG, labels, [header], ["object"], author, stream.spacing_mm)
    return summary


def _opened(source: str, options: CineOptions, *, hounsfield: bool) -> Cine:
    if options.watched:
        return watch(Path(source), options.idle_s, hounsfield=hounsfield)
    return open_cine(source, hounsfield=hounsfield)


def _written(
    live: Iterator[LiveFrame], stream: Cine, out: Path, classes: Sequence[str]
) -> Iterator[LiveFrame]:
    """The frames, each after it was written."""
    try:
        with CineFolder(out, stream.rate, stream.spacing_mm, classes) as results:
            for frame in track(live, "segmenting", "frames", stream.count or 0):
                results.add(frame)
                yield frame
    except OSError as error:
        problem = f"cannot be written ({error.strerror or error})"
        raise InputError(out, problem, "free space or name another folder") from error


def _check_seg(source: str, stream: Cine) -> None:
    path = Path(source)
    if not path.is_file() or kind_of(read_head(path)) != "DICOM":
        problem = "refers to a DICOM file, which the source is not"
        raise InputError("--seg", problem, "leave it out")
    if (stream.count or 0) > SEG_FRAMES_AT_MOST:
        problem = f"is for loops of at most {SEG_FRAMES_AT_MOST} frames"
        raise InputError("--seg", problem, "leave it out, or cut the loop")


def _prompt(box: Sequence[float] | None, points: Sequence[Sequence[float]]) -> Prompt:
    pointed = Prompt()
    if points:
        labels = [point[2] if len(point) == 3 else 1 for point in points]
        pointed = point_prompt([point[:2] for point in points], labels)
    corners = None if box is None else np.asarray(box, dtype=np.float64)
    return Prompt(corners, pointed.points, pointed.point_labels)


def _union(frame: LiveFrame) -> NDArray[np.uint8]:
    mask = np.zeros(frame.image.shape, dtype=np.uint8)
    for found in frame.objects:
        mask[found.mask] = 1
    return mask
