"""Make the committed splits of the public sets: make_public_splits.py DATA [SET ...].

Sets named with a plus share patients and are split as one (ct_msd_liver+ct_ircadb_slices). An
existing file is only replaced with --replace: results are compared over these splits.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from samling.atomic import write_text
from samling.data.case_meta import CaseMeta
from samling.data.checks import check_entries
from samling.data.duplicates import merge_groups, near_duplicates, thumbnail
from samling.data.sources.layouts import read_layout
from samling.data.splits import PARTS, Splits, refuse_leaks, split_by_group

SETS = (
    "breast_busi",
    "thyroid_ddti",
    "thyroid_tg3k",
    "fetal_hc18",
    "nerve_usgra",
    "ovary_mmotu",
    "ct_msd_liver+ct_ircadb_slices",
)
TARGET = Path(__file__).parent.parent / "src" / "samling" / "data" / "public_splits"


def main() -> None:
    """Read the sets, split them, write one JSON file each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("sets", nargs="*", default=SETS)
    parser.add_argument("--replace", action="store_true")
    options = parser.parse_args()
    for joined in options.sets:
        names = joined.split("+")
        targets = [TARGET / f"{name}.json" for name in names]
        if any(path.exists() for path in targets) and not options.replace:
            print(f"{joined}: kept")
            continue
        for path, splits in zip(targets, split_sets(options.data, names), strict=True):
            write_text(path, json.dumps(splits.to_dict(), indent=0) + "\n")
            print(path.stem, {part: len(splits.ids(part)) for part in PARTS}, splits.hash[:12])


def split_sets(data: Path, names: list[str]) -> list[Splits]:
    """One split over several sets, by group with near-duplicates joined; then taken apart."""
    rows: list[CaseMeta] = []
    home: dict[str, str] = {}
    thumbnails = []
    for name in names:
        _, listing = read_layout(data / name, "folder")
        for checked in check_entries(listing.entries, data / name):
            if checked.case is not None:
                row = CaseMeta.of(checked.case)
                category = row.category if len(names) == 1 else name
                rows.append(replace(row, category=category))
                home[row.id] = name
                thumbnails.append(thumbnail(checked.case.image))
    pairs = near_duplicates(thumbnails, [row.modality for row in rows])
    groups = merge_groups([row.group for row in rows], pairs)
    rows = [replace(row, group=group) for row, group in zip(rows, groups, strict=True)]
    whole = split_by_group(rows)
    refuse_leaks(whole, rows, "+".join(names))
    rule = whole.rule + (f"; together with {', '.join(names)}" if len(names) > 1 else "")
    return [
        Splits.of(
            {part: [id for id in whole.ids(part) if home[id] == name] for part in PARTS}, rule
        )
        for name in names
    ]


if __name__ == "__main__":
    main()
