"""The store: one HDF5 file of images, labels, cases and splits, written whole or not at all."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from samling.atomic import atomic_path
from samling.data.case import Case
from samling.data.case_meta import CaseMeta
from samling.data.readers.bounds import MAX_PIXELS
from samling.data.readers.plane import CT_OFFSET
from samling.data.sink import Sink
from samling.data.splits import Splits, fold_by_group, fold_in
from samling.errors import InputError

SCHEMA = 1
_AGAIN = "prepare it again"


class StoreWriter:
    """Adds cases to an open file, one by one; see `writing`."""

    def __init__(self, file: h5py.File, classes: tuple[str, ...], sink: Sink) -> None:
        self._file = file
        self._sink = sink
        self._classes = classes
        self._rows: list[CaseMeta] = []
        self._digest = hashlib.sha256()
        self.finished = False

    def add(self, case: Case) -> None:
        """Store a case; one without labels (None) stays one without.

        Its image is (H, W) whole numbers 0..65535, or -1024..64511 for Hounsfield units.

        Raises:
            ValueError: another shape or other values.
            OSError: the disk is full.
        """
        pixels = _as_stored(case)
        labels = np.zeros(pixels.shape, np.uint8) if case.labels is None else case.labels
        if labels.shape != pixels.shape or labels.dtype != np.uint8:
            raise ValueError(f"{case.id}: labels must be uint8 of shape {pixels.shape}")
        key = _key(len(self._rows))
        for folder, plane in (("images", pixels), ("labels", labels)):
            self._file.create_dataset(
                f"{folder}/{key}", data=plane, chunks=plane.shape, compression="lzf"
            )
        self._sink.check()
        self._rows.append(CaseMeta.of(case))
        _digest_case(self._digest, case.id, pixels, labels)

    def finish(
        self,
        splits: Splits,
        groups: Mapping[str, str] | None = None,
        classes: tuple[str, ...] | None = None,
    ) -> str:
        """Write the tables; `groups` (id -> group) and `classes` replace those known before.

        Returns:
            The content hash.

        Raises:
            ValueError: the splits name a case that is not here, or an id is there twice.
        """
        ids = {row.id for row in self._rows}
        if len(ids) < len(self._rows):
            raise ValueError("two cases have the same id")
        if missing := splits.part_of().keys() - ids:
            raise ValueError(f"the splits name cases that are not here: {sorted(missing)[:3]}")
        rows = [replace(row, group=(groups or {}).get(row.id, row.group)) for row in self._rows]
        classes = classes or self._classes
        table = json.dumps([row.row() for row in rows])
        self._file.create_dataset("cases", data=np.frombuffer(table.encode(), np.uint8))
        _digest_tables(self._digest, rows, classes, splits)
        self._file.create_dataset(
            "splits", data=np.frombuffer(json.dumps(splits.to_dict()).encode(), np.uint8)
        )
        self._file.attrs["classes"] = json.dumps(classes)
        self._file.attrs["content_hash"] = self._digest.hexdigest()
        self.finished = True
        return self._digest.hexdigest()


@contextmanager
def writing(
    path: str | Path, *, name: str, classes: tuple[str, ...], licence: str
) -> Iterator[StoreWriter]:
    """Open a store for writing; it appears at `path` when the block ends with `finish` called.

    Raises:
        InputError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    try:
        with atomic_path(path) as temporary, closing(Sink(temporary)) as sink:
            with h5py.File(sink, "w") as file:
                file.attrs.update(schema=SCHEMA, name=name, licence=licence)
                writer = StoreWriter(file, classes, sink)
                yield writer
                if not writer.finished:
                    raise ValueError("a store must be finished before it is closed")
            sink.check()
    except OSError as error:
        raise InputError(
            path, f"cannot be written ({error})", "free space or write elsewhere"
        ) from error


def write_store(
    path: str | Path,
    cases: Iterable[Case],
    splits: Splits,
    *,
    name: str,
    classes: tuple[str, ...],
    licence: str,
) -> str:
    """Write cases whose splits are known. Returns the content hash; errors as in `writing`."""
    with writing(path, name=name, classes=classes, licence=licence) as writer:
        for case in cases:
            writer.add(case)
        return writer.finish(splits)


class Store:
    """A store opened for reading: cheap to open, safe to pickle and to use after a fork.

    Args:
        path: as it was named, perhaps with a fold: `my.h5@2of5` is the second of five, see `fold_by_group`.
            Training and validation cases are dealt into folds; test cases stay out.
        file: the same, open.

    Attributes:
        neighbours: whether `case` reads the slices before and after, too.
        only: (number, nested): labels that `case` gives are 1 where this class is, nested: or one
            after it; None: all classes, by number.
        fold: (number, of how many); None: the whole store.
    """

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path = path
        self.neighbours = False
        self.only: tuple[int, bool] | None = None
        self._file: h5py.File | None = file
        self._process = os.getpid()
        self.name = str(file.attrs["name"])
        self.classes: tuple[str, ...] = tuple(json.loads(file.attrs["classes"]))
        self.licence = str(file.attrs["licence"])
        self.content_hash = str(file.attrs["content_hash"])
        rows = [CaseMeta.from_row(row) for row in _json(file, "cases")]
        self.splits = Splits.from_dict(_json(file, "splits"), str(path))
        self.ids: tuple[str, ...] = tuple(row.id for row in rows)
        self._rows = {row.id: row for row in rows}
        self._index = {id: index for index, id in enumerate(self.ids)}
        self._place, self.fold = fold_in(path)
        if self.fold is not None:
            kept = set(self.splits.test.ids)
            self.splits = fold_by_group([row for row in rows if row.id not in kept], *self.fold)
            both = f"{self.content_hash} {self.splits.hash}"
            self.content_hash = hashlib.sha256(both.encode()).hexdigest()

    @classmethod
    def open(cls, path: str | Path) -> "Store":
        """Open a store, or a fold of one.

        Raises:
            InputError: it is missing, damaged, no store, or of a newer schema; it has no such fold.
        """
        path = Path(path)
        place, _ = fold_in(path)
        if place.is_dir():
            raise InputError(place, "is a folder, no store", f"`samling prepare {place} -o my.h5`")
        if not place.is_file():
            known = place.with_name(place.name.partition("@")[0])
            fold = f"a fold is named {known.name}@2of5" if known.is_file() else ""
            raise InputError(place, "does not exist", fold or "make it with `samling prepare`")
        try:
            file = h5py.File(place, "r")
            _check_schema(path, file)
            return cls(path, file)
        except InputError:
            raise
        except (OSError, RuntimeError) as error:
            if not h5py.is_hdf5(place):
                raise InputError(path, "is no store", "make one with `samling prepare`") from error
            raise InputError(path, f"is truncated or damaged ({error})", _AGAIN) from error
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise InputError(path, f"is damaged or no store ({error})", _AGAIN) from error

    def __len__(self) -> int:
        """Number of cases."""
        return len(self.ids)

    def meta(self, id: str) -> CaseMeta:
        """All that is known of a case without reading its pixels.

        Raises:
            InputError: no such case.
        """
        if id not in self._rows:
            raise InputError(self.path, f"has no case '{id}'", "choose one of its ids")
        return self._rows[id]

    def case(self, id: str) -> Case:
        """Read a case; labels None: nobody looked. All zeros: nothing here.

        Raises:
            InputError: no such case, or its pixels are damaged.
        """
        row = self.meta(id)
        image, labels = self._planes(row)
        if self.only is not None:
            number, nested = self.only
            labels = (labels >= number if nested else labels == number).astype(np.uint8)
        return Case(
            id=row.id,
            image=image.astype(np.float32) - (CT_OFFSET if row.hounsfield else 0),
            labels=labels if row.labelled else None,
            spacing_mm=row.spacing_mm,
            patient=row.patient,
            group=row.group,
            category=row.category,
            modality=row.modality,
            source=Path(row.source) if row.source else None,
            hounsfield=row.hounsfield,
            neighbours=self._neighbours(row, image.shape) if self.neighbours else None,
        )

    def _neighbours(self, row: CaseMeta, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """(2, H, W) the slices beside a slice of a volume, by the number that ends its id."""
        planes = []
        for step in (-1, 1):
            other = self._rows.get(_beside(row.id, step), row)
            other = other if (other.height, other.width) == shape else row
            plane = self._planes(other)[0].astype(np.float32)
            planes.append(plane - (CT_OFFSET if other.hounsfield else 0))
        return np.stack(planes)

    @property
    def has_neighbours(self) -> bool:
        """Whether any two cases are slices beside each other."""
        return any(_beside(id, 1) in self._rows for id in self.ids)

    def verify(self) -> None:
        """Read everything and compare with the content hash.

        Raises:
            InputError: something was changed.
        """
        digest = hashlib.sha256()
        for id in self.ids:
            _digest_case(digest, id, *self._planes(self._rows[id]))
        file = self._open_file()
        splits = Splits.from_dict(_json(file, "splits"), str(self.path))  # its own, of no fold
        _digest_tables(digest, list(self._rows.values()), self.classes, splits)
        if digest.hexdigest() != file.attrs["content_hash"]:
            raise InputError(self.path, "does not match its content hash", _AGAIN)

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        if self._file is not None and self._process == os.getpid():
            self._file.close()
        self._file = None

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the open file."""
        return {**self.__dict__, "_file": None}

    def _open_file(self) -> h5py.File:
        # An HDF5 handle shared over a fork reads garbage: each process opens its own.
        if self._file is None or self._process != os.getpid():
            self._file = h5py.File(self._place, "r")
            self._process = os.getpid()
        return self._file

    def _planes(self, row: CaseMeta) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        key = _key(self._index[row.id])
        try:
            file = self._open_file()
            image = _plane(file, f"images/{key}", row, ("uint8", "uint16"))
            return image, _plane(file, f"labels/{key}", row, ("uint8",))
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise InputError(self.path, f"is damaged at '{row.id}' ({error})", _AGAIN) from error


def _beside(id: str, step: int) -> str:
    """Id of the slice `step` further in the same volume; "" if this is no slice of one.

    >>> _beside("patient1_s0041", 1)
    'patient1_s0042'
    """
    match = re.fullmatch(r"(.+_s)(\d{4,})", id)
    return f"{match[1]}{int(match[2]) + step:04d}" if match else ""


def _key(index: int) -> str:
    return f"{index:06d}"


def _as_stored(case: Case) -> NDArray[np.uint8] | NDArray[np.uint16]:
    image = case.image + CT_OFFSET if case.hounsfield else case.image
    if image.ndim != 2 or image.size == 0:
        raise ValueError(f"{case.id}: expected an image (H, W), got {image.shape}")
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 65535) or (image != np.round(image)).any():
        raise ValueError(f"{case.id}: expected whole numbers 0..65535, got {low} to {high}")
    return image.astype(np.uint8) if high <= 255 else image.astype(np.uint16)


def _digest_case(digest: Any, id: str, image: NDArray[Any], labels: NDArray[Any]) -> None:
    digest.update(f"{id}|{image.dtype.name}|{image.shape}|".encode())
    digest.update(np.ascontiguousarray(image).astype(image.dtype.newbyteorder("<"), copy=False))
    digest.update(np.ascontiguousarray(labels))


def _digest_tables(
    digest: Any, rows: Sequence[CaseMeta], classes: tuple[str, ...], splits: Splits
) -> None:
    """What changes training or its numbers: group, category and pixel size; classes; splits."""
    for row in rows:
        # 1 is read back as 1.0: both must give the same text
        spacing = None if row.spacing_mm is None else [float(step) for step in row.spacing_mm]
        about = [row.id, row.group, row.category, spacing, *([True] if row.hounsfield else [])]
        about += [] if row.labelled else ["unlabelled"]
        digest.update(json.dumps(about).encode())
    digest.update(json.dumps(classes).encode())
    digest.update(splits.hash.encode())


def _check_schema(path: Path, file: h5py.File) -> None:
    schema = file.attrs.get("schema")
    if schema is None:
        raise InputError(path, "is no samling store", "make one with `samling prepare`")
    if int(schema) > SCHEMA:
        problem = f"has schema {int(schema)}, this samling reads up to {SCHEMA}"
        raise InputError(path, problem, "update samling, or prepare the store with this one")


def _dataset(file: h5py.File, key: str) -> h5py.Dataset:
    """A data set that lies in this very file: links to other files are never followed."""
    parts = key.split("/")
    for depth in range(1, len(parts) + 1):
        link = file.get("/".join(parts[:depth]), getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise KeyError(f"{key} is missing or a link")
    item = file[key]
    if not isinstance(item, h5py.Dataset) or item.external or item.is_virtual:
        raise KeyError(f"{key} is no plain data set")
    return item


def _json(file: h5py.File, key: str) -> Any:
    data = _dataset(file, key)
    if data.dtype != np.uint8 or data.ndim != 1 or data.size > 1 << 28:
        raise ValueError(f"{key} is no table")
    return json.loads(data[()].tobytes())


def _plane(file: h5py.File, key: str, row: CaseMeta, kinds: tuple[str, ...]) -> NDArray[Any]:
    data = _dataset(file, key)
    if data.shape != (row.height, row.width) or data.dtype.name not in kinds:
        raise ValueError(f"{key} is {data.dtype} {data.shape}")
    if data.size > MAX_PIXELS:
        raise ValueError(f"{key} has {data.size} pixels")
    return data[()]
