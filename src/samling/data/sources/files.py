"""What the sources share: which files are images, how ids are made, how meta.csv is read."""

import csv
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from samling.data.readers.image import SUFFIXES
from samling.data.sources.entry import Problem
from samling.errors import InputError

IMAGE_SUFFIXES = (*SUFFIXES, ".dcm")


def images_in(folder: Path) -> list[Path]:
    """Image files of a folder (not below it), sorted by name; hidden files are left out."""
    if not folder.is_dir():
        return []
    files = (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(path for path in files if path.is_file() and not path.name.startswith("."))


def by_stem(paths: Iterable[Path], problems: list[Problem]) -> dict[str, Path]:
    """Stem -> path; two files of one stem become a problem and the first is kept."""
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            reason = f"has the same name as {found[path.stem].name}"
            problems.append(Problem(str(path), reason, "rename or remove one of them"))
        else:
            found[path.stem] = path
    return found


def safe_id(text: str) -> str:
    """An id of letters, digits, `_`, `-` and `.`, whatever the file was called.

    >>> safe_id("Fall 7 (links)")
    'Fall_7_links'
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", plain).strip("_.-")[:120] or "case"


def natural(text: str) -> tuple[tuple[int, str], ...]:
    """Sort key by which `10` follows `9`."""
    parts = re.findall(r"\d+|\D+", text)
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)


def read_table(path: Path, key: str = "id") -> dict[str, dict[str, str]]:
    """CSV with a header -> {key column: row}; absent file -> {}.

    Raises:
        InputError: unreadable, without the key column, or with a key twice.
    """
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            path, f"cannot be read as CSV ({error})", "save it as UTF-8 CSV"
        ) from error
    if rows and key not in rows[0]:
        raise InputError(path, f"has no column '{key}'", f"add a column '{key}'")
    table = {
        (row[key] or "").strip(): {
            k: (v or "").strip()
            for k, v in row.items()
            if isinstance(k, str) and not isinstance(v, list)
        }
        for row in rows
    }
    if len(table) < len(rows):
        raise InputError(path, f"names an entry twice in column '{key}'", "keep one row for each")
    return table


def unused_columns(
    path: Path, table: dict[str, dict[str, str]], known: Sequence[str]
) -> list[Problem]:
    """A note on the columns of a table that nobody will read: one of them may be misspelt."""
    header = next(iter(table.values()), {})
    unused = [name or "(without a name)" for name in header if name not in known]
    if not unused:
        return []
    reason = f"columns not used: {', '.join(unused)} (known: {', '.join(known)})"
    return [Problem(str(path), reason, "rename what should count", "info")]
