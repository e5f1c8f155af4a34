"""Entry: one image of a data set and where its labels are, before anything is read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from samling.data.case import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from samling.data.volume import Volume

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Problem:
    """One thing to know about one file. Errors keep a case out; warnings and infos do not."""

    file: str
    reason: str
    remedy: str
    severity: Severity = "error"


@dataclass(frozen=True)
class MaskFile:
    """A mask image. Several of one entry are drawn one over the other, in order.

    Args:
        path: the file.
        label: class number of its foreground; None: the file's own values are class numbers.
        outline: the file holds a closed outline, to be filled.
    """

    path: Path
    label: int | None = None
    outline: bool = False


@dataclass(frozen=True)
class Polygon:
    """One closed contour, `points` as (x, y) in pixels, filled with `label`."""

    points: tuple[tuple[float, float], ...]
    label: int = 1


@dataclass(frozen=True)
class RunLength:
    """Uncompressed COCO runs: background and foreground in turn, column by column."""

    counts: tuple[int, ...]
    height: int
    width: int
    label: int = 1


Shape = MaskFile | Polygon | RunLength


@dataclass(frozen=True)
class Entry:
    """One image with its labels to be drawn; no shapes at all means: nothing here.

    Args:
        id: unique within the data set.
        image: the image file.
        shapes: what to draw into the labels, later ones on top.
        patient, group, category, spacing_mm, modality: as in `Case`.
        part: "train", "val" or "test" where the source brings its own split.
        labelled: False if nobody has labelled it; no shapes then mean nothing.
    """

    id: str
    image: Path
    shapes: tuple[Shape, ...] = ()
    patient: str | None = None
    group: str | None = None
    category: str = ""
    spacing_mm: tuple[float, float] | None = None
    modality: Modality = "unknown"
    part: str | None = None
    labelled: bool = True


@dataclass(frozen=True)
class VolumeEntry:
    """One scan with its labels, read when it is its turn.

    Args:
        path: file or folder, for messages.
        load: gives the volume and its (D, H, W) class numbers; InputError if it cannot.
        patient, group, category, modality, part: as in `Entry`.
    """

    id: str
    path: Path
    load: "Callable[[], tuple[Volume, NDArray[np.uint8]]]"
    patient: str | None = None
    group: str | None = None
    category: str = ""
    modality: Modality = "ct"
    part: str | None = None


def load_pair(scan: Path, labels: Path) -> "tuple[Volume, NDArray[np.uint8]]":
    """A volume file and the label file that belongs to it."""
    from samling.data.readers.volume_file import read_label_file, read_volume_file

    volume = read_volume_file(scan)
    return volume, read_label_file(labels, volume)


@dataclass(frozen=True)
class Listing:
    """A data set as its source sees it.

    Args:
        entries: the images.
        classes: names of classes 1, 2, ...
        problems: what did not fit.
        licence: as far as known.
        public_name: name of the committed splits that belong to it; "" for none.
        volumes: scans; a data set has these or entries.
        official: the entries' parts are the publisher's; parts of other origin must not leak.
    """

    entries: Sequence[Entry]
    classes: tuple[str, ...] = ("foreground",)
    problems: Sequence[Problem] = field(default_factory=tuple)
    licence: str = "unknown"
    public_name: str = ""
    official: bool = False
    volumes: Sequence[VolumeEntry] = ()
