"""Results of a cine loop: annotated video, a table with a row per frame, the curve of the area."""

import csv
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from samling.atomic import atomic_path, write_text
from samling.errors import InputError
from samling.inference.live import LiveFrame
from samling.inference.measure import measure
from samling.inference.overlay import draw

COLUMNS = (
    "frame",
    "seconds",
    "objects",
    "score",
    "area_px",
    "area_mm2",
    "x0",
    "y0",
    "x1",
    "y1",
    "needs_help",
)
VIDEO, TABLE, CURVE = "annotated.mp4", "frames.csv", "area.svg"
PLAYED = 25.0
"""Frames per second of the video where the source has no rate."""
_CURVE_SIZE = (640, 160)


class CineFolder:
    """Writes while frames come; nothing but one number per frame stays in memory.

    As a context: files get their names when it ends, also when the stream breaks off. Without a
    frame there is nothing to name: what an earlier stream left stays, and a new folder goes again.

    Args:
        folder: made if it is missing.
        rate: frames per second of the source; None: it has none, then nothing is said in seconds.
        spacing_mm: size of a pixel, for areas in mm².
        classes: of the model, see `draw`.
    """

    def __init__(
        self,
        folder: Path,
        rate: float | None,
        spacing_mm: tuple[float, float] | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        self.folder, self.rate, self.spacing_mm = folder, rate, spacing_mm
        self.classes = tuple(classes)
        self._areas: list[float] = []
        self._video: cv2.VideoWriter | None = None
        self._made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        # The container follows from the suffix, so the temporary name keeps it
        self._unfinished = folder / f".part.{VIDEO}"
        self._table = (folder / f".part.{TABLE}").open("w", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._table, COLUMNS, lineterminator="\n")
        self._writer.writeheader()

    def __enter__(self) -> "CineFolder":
        return self

    def add(self, frame: LiveFrame) -> None:
        """Write one frame.

        Raises:
            InputError: the video cannot be written.
        """
        picture = draw(frame.image, frame.objects, self.classes)
        if self._video is None:
            self._video = self._opened(picture.shape[1], picture.shape[0])
        self._video.write(picture[..., ::-1])
        union = np.zeros(frame.image.shape, dtype=bool)
        for found in frame.objects:
            union |= found.mask
        size = measure(union, self.spacing_mm)
        corners = dict(zip(("x0", "y0", "x1", "y1"), size.box or (), strict=False))
        score = max((found.score for found in frame.objects), default=None)
        self._writer.writerow(
            {
                "frame": frame.number,
                "seconds": None if self.rate is None else f"{frame.number / self.rate:.4f}",
                "objects": sum(found.box is not None for found in frame.objects),
                "score": None if score is None else f"{score:.4f}",
                "area_px": size.area_px,
                "area_mm2": None if size.area_mm2 is None else f"{size.area_mm2:.3f}",
                **corners,
                "needs_help": int(frame.needs_help),
            }
        )
        self._areas.append(size.area_px if size.area_mm2 is None else size.area_mm2)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close and name the files; what was segmented is kept, whatever happened after it."""
        self._table.close()
        if self._video is not None:
            self._video.release()
        if not self._areas:
            Path(self._table.name).unlink(missing_ok=True)
            self._unfinished.unlink(missing_ok=True)
            if self._made:
                self.folder.rmdir()
            return
        with atomic_path(self.folder / TABLE) as temporary:
            Path(self._table.name).replace(temporary)
        with atomic_path(self.folder / VIDEO) as temporary:
            self._unfinished.replace(temporary)
        unit = "px" if self.spacing_mm is None else "mm²"
        write_text(self.folder / CURVE, area_curve(self._areas, self.rate, unit))

    def _opened(self, width: int, height: int) -> cv2.VideoWriter:
        code = cv2.VideoWriter.fourcc(*"mp4v")
        rate = self.rate or PLAYED
        video = cv2.VideoWriter(str(self._unfinished), code, rate, (width, height))
        if not video.isOpened():
            problem = "cannot be written"
            raise InputError(self.folder / VIDEO, problem, "free space or name another folder")
        return video


def area_curve(areas: Sequence[float], rate: float | None, unit: str) -> str:
    """SVG of area over time, or over frames without a rate; long loops are drawn by every n-th frame."""
    width, height = _CURVE_SIZE
    top = max([*areas, 1e-9])
    step = max(1, len(areas) // width)
    shown: NDArray[np.float64] = np.asarray(areas[::step], dtype=np.float64)
    x = np.linspace(40, width - 10, max(len(shown), 1))
    y = height - 20 - shown / top * (height - 40)
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=False))
    length = f"{len(areas)} frames" if rate is None else f"{len(areas) / rate:.1f} s"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="11">\n'
        f'<rect width="{width}" height="{height}" fill="white"/>\n'
        f'<text x="4" y="14">area, up to {top:.0f} {unit}</text>\n'
        f'<text x="{width - 10}" y="{height - 4}" text-anchor="end">{length}</text>\n'
        f'<polyline points="{line}" fill="none" stroke="#d55e00" stroke-width="1.5"/>\n</svg>\n'
    )
