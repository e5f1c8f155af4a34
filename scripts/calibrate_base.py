"""Calibrate what ships: expected Dice with intervals into base.json, beside the weights.

python scripts/calibrate_base.py OUT STORE.h5 ... [--level 0.9] [--model tiny]     OUT: folder of the report

Validation images alone are looked at, those of all stores pooled, halves made by group: the intervals hold
for images mixed as these are, not for each set, which the report shows apart. Run it after
`pack_base.py OUT --ship`, which puts a card without calibration in place.
"""

import argparse
from pathlib import Path

from samling.recipes.calibrate import calibrate

WEIGHTS = Path(__file__).parent.parent / "src" / "samling" / "weights"


def main() -> None:
    """Print how it goes, and the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("stores", nargs="+", type=Path)
    parser.add_argument("--level", type=float, default=0.9)
    parser.add_argument("--model", choices=("base", "tiny"), default="base")
    given = parser.parse_args()
    folder = WEIGHTS / "tiny" if given.model == "tiny" else WEIGHTS
    page = calibrate(folder, given.stores, level=given.level, out=given.out, say=print)
    print(page.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
