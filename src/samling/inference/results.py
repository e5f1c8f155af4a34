"""Results on disk: mask and overlay per image, one CSV with a row per object or for finding none."""

import csv
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samling.atomic import atomic_path
from samling.errors import InputError
from samling.inference.expectation import Expected
from samling.inference.measure import measure
from samling.inference.overlay import draw, write_png
from samling.inference.segmenter import Object

COLUMNS = (
    "file",
    "object",
    "class",
    "score",
    "quality",
    "expected_dice",
    "expected_low",
    "expected_high",
    "look",
    "reason",
    "area_px",
    "area_mm2",
    "longest_diameter_px",
    "longest_diameter_mm",
    "x0",
    "y0",
    "x1",
    "y1",
    "spacing_row_mm",
    "spacing_column_mm",
    "frame",
    "mask",
)
GENERIC = ("object", "foreground")
"""Classes without a meaning: the only class of a model, where it has no better name."""
NOTHING_FOUND = "nothing found"
"""A reason to look, beside those of `Expected`."""
_ENDINGS = (".png", "_overlay.png")
_STEM_BYTES = 180  # leaves room for a suffix in the 255 bytes of a file name


class ResultFolder:
    """Collects the results of many images in one folder, never two under one name.

    Args:
        folder: made when the first result is written.
        classes: those of the model. One generic class: objects may bear any name. One class: masks
            are 0 and 255. More: masks hold class numbers, from 1, later objects on top.
    """

    def __init__(self, folder: str | Path, classes: Sequence[str] = GENERIC[:1]) -> None:
        self.folder = Path(folder)
        self.classes = tuple(classes)
        self._taken = {"results.csv", "volumes.csv"}
        self._sources: dict[str, Path] = {}
        self._rows: list[dict[str, object]] = []
        self._written: list[Path] = []

    @property
    def rows(self) -> list[dict[str, object]]:
        """One for each object so far, and one with object 0 for each image where none was found."""
        return self._rows

    @contextmanager
    def all_or_nothing(self, unless: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """What is added inside the block is taken back if the block fails.

        `unless` is asked then: True if another process has written the same files meanwhile.
        """
        rows, taken = len(self._rows), set(self._taken)
        self._written = []
        try:
            yield
        except BaseException:
            for path in () if unless() else self._written:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            del self._rows[rows:]
            self._taken = taken
            raise

    def add(
        self,
        source: Path,
        image: NDArray[np.generic],
        objects: Sequence[Object],
        *,
        spacing_mm: tuple[float, float] | None = None,
        frame: int | None = None,
        stem: str | None = None,
        asked: bool = True,
        nothing: Expected | None = None,
    ) -> Path:
        """Write mask and overlay of one image, remember its rows; return the mask's path.

        Without an object an image still has a row, so that a missed lesion is in the table.

        Args:
            source: the input; its stem names the results, unless `stem` does.
            image: (H, W) grey.
            frame: number of the frame in a cine loop, None for a single image.
            stem: a name that the caller has seen to: taken as it is, neither cut nor numbered.
            asked: False: nothing was looked for, so that finding nothing means nothing.
            nothing: what may be expected where nothing was found; None: not known.

        Raises:
            InputError: the folder cannot be written, or an object is of no class of the model.
        """
        mask = self._mask(source, image.shape, objects)
        suffix = "" if frame is None else f"_f{frame:03d}"
        own = self.reserve(f"{source.stem}{suffix}", _ENDINGS) if stem is None else None
        name = own or f"{stem}{suffix}"
        overlay = draw(image, objects, self.classes)
        for path, picture in ((f"{name}.png", mask), (f"{name}_overlay.png", overlay)):
            self.wrote(self.folder / path)  # before it is: who is stopped in between takes it back
            write_png(self.folder / path, picture)
        rows = [_row(number, found, spacing_mm) for number, found in enumerate(objects, start=1)]
        if asked and not objects:
            rows = [{"object": 0, **_expected(nothing, nothing=True)}]
        first = self._sources.setdefault(source.name, source)
        called = source.name if source == first else str(source)  # a/x.png and b/x.png
        common = {"file": called, "frame": frame, "mask": f"{name}.png"} | _scale(spacing_mm)
        self._rows += [row | common for row in rows]
        return self.folder / f"{name}.png"

    def write_table(self) -> Path:
        """Write `results.csv`.

        Raises:
            InputError: the folder cannot be written.
        """
        path = self.folder / "results.csv"
        try:
            with (
                atomic_path(path) as temporary,
                temporary.open("w", newline="", encoding="utf-8") as f,
            ):
                writer = csv.DictWriter(f, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(self._rows)
        except OSError as error:
            reason = error.strerror or str(error)
            remedy = "free space or name another folder"
            raise InputError(path, f"cannot be written ({reason})", remedy) from error
        return path

    def class_numbers(
        self, source: Path, shape: tuple[int, ...], objects: Sequence[Object]
    ) -> NDArray[np.uint8]:
        """Objects as class numbers from 1, later ones on top; also where masks are 0 and 255."""
        mask = self._mask(source, shape, objects)
        return np.minimum(mask, 1) if len(self.classes) == 1 else mask

    def _mask(
        self, source: Path, shape: tuple[int, ...], objects: Sequence[Object]
    ) -> NDArray[np.uint8]:
        mask = np.zeros(shape, dtype=np.uint8)
        for number, found in enumerate(objects, start=1):
            mask[found.mask] = self._value(found.class_name, f"{source}, object {number}, class")
        return mask

    def _value(self, class_name: str, where: str) -> int:
        """Grey value of a class in the masks."""
        free = len(self.classes) == 1 and self.classes[0] in GENERIC
        if not free and class_name not in self.classes:
            problem = f"{class_name!r} is not a class of this model"
            raise InputError(where, problem, f"use {', '.join(self.classes)}")
        return 255 if len(self.classes) == 1 else self.classes.index(class_name) + 1

    def wrote(self, path: Path) -> None:
        """Remember a file, to take it back if what it belongs to fails."""
        self._written.append(path)

    def reserve(self, stem: str, endings: Sequence[str]) -> str:
        """A name that is free with every ending, also where A.png and a.png are one file."""
        stem = stem.encode()[:_STEM_BYTES].decode(errors="ignore").lstrip(".") or "image"
        number = 1
        while True:
            name = stem if number == 1 else f"{stem}_{number}"
            files = {_fold(f"{name}{ending}") for ending in endings}
            if not files & self._taken:
                self._taken |= files
                return name
            number += 1


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _row(number: int, found: Object, spacing_mm: tuple[float, float] | None) -> dict[str, object]:
    size = measure(found.mask, spacing_mm)
    corners = dict(zip(("x0", "y0", "x1", "y1"), size.box, strict=True)) if size.box else {}
    return {
        "object": number,
        "class": found.class_name,
        "score": f"{found.score:.4f}",
        "quality": f"{found.quality:.4f}",
        **_expected(found.expected, nothing=not size.box),
        "area_px": size.area_px,
        "area_mm2": _rounded(size.area_mm2),
        "longest_diameter_px": _rounded(size.longest_diameter_px),
        "longest_diameter_mm": _rounded(size.longest_diameter_mm),
        **corners,
    }


def _scale(spacing_mm: tuple[float, float] | None) -> dict[str, object]:
    row, column = spacing_mm or (None, None)
    return {"spacing_row_mm": row, "spacing_column_mm": column}


def _expected(expected: Expected | None, nothing: bool) -> dict[str, object]:
    """What to expect and whether to look; empty for objects of a model that is not calibrated.

    Where nothing was found a person shall look, unless calibration says that little is missed there.
    """
    if expected is None:
        return {"look": "yes", "reason": NOTHING_FOUND} if nothing else {}
    dice, low, high = (f"{value:.3f}" for value in expected[:3])
    said: dict[str, object] = {"expected_dice": dice, "expected_low": low, "expected_high": high}
    reason = NOTHING_FOUND if nothing else expected.reason
    return said | ({"look": "yes", "reason": reason} if expected.look else {"look": "no"})


def _rounded(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"
