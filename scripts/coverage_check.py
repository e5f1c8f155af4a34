"""Conformal coverage on real validation images: coverage_check.py MODEL STORE.h5 ... [--level 0.9].

Every image is asked about once. Then, 200 times, half of the groups of all stores fit the curve and its
margin, and the other half counts how many Dice values lie in the interval. The mean of that share shall
be within 3 points of the level; single halves scatter, because they are small.
"""

import argparse
from pathlib import Path

import numpy as np

from samling.data.store import Store
from samling.evaluation.calibration import covered, fit_curve
from samling.inference.segmenter import Segmenter
from samling.recipes.calibrate import ask_case
from samling.recipes.calibration_report import NAMES, Answered, Half
from samling.recipes.load import load

ROUNDS = 200


def main() -> None:
    """Print, for each kind of prompt, mean coverage and its scatter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("stores", nargs="+", type=Path)
    parser.add_argument("--level", type=float, default=0.9)
    parser.add_argument("--images", type=int, default=0, help="of each store; 0: all")
    given = parser.parse_args()
    segmenter = load(given.model)
    plain = segmenter.card.model_copy(update={"calibration": None})
    half = Half([], [], [])
    for store in map(Store.open, given.stores):
        ids = store.splits.val.ids
        for id in ids[: given.images or len(ids)]:
            ask_case(Segmenter(segmenter.backend, plain), store.case(id), half, store.name)
    print(f"| prompt | objects | coverage, nominal {given.level:.2f} | SD of halves | mean width |")
    print("| --- | --- | --- | --- | --- |")
    for kind, protocol in NAMES.items():
        own = half.of(kind)
        if len({item.group for item in own}) > 1:
            shares, widths = _coverage(own, given.level)
            print(f"| {protocol} | {len(own)} | {np.mean(shares):.3f} | {np.std(shares):.3f} | "
                  f"{np.mean(widths):.2f} |")  # fmt: skip


def _coverage(own: list[Answered], level: float) -> tuple[list[float], list[float]]:
    rng = np.random.default_rng(0)
    groups = np.array([item.group for item in own])
    quality = np.array([item.quality for item in own])
    dice = np.array([item.dice for item in own])
    shares, widths = [], []
    for _ in range(ROUNDS):
        names = rng.permutation(np.unique(groups))
        fits = np.isin(groups, names[: len(names) // 2])
        curve = fit_curve(quality[fits], dice[fits], groups[fits].tolist(), level)
        expected = [curve.expect(q) for q in quality[~fits]]
        shares.append(covered(expected, dice[~fits].tolist()).share)
        widths.append(float(np.mean([e.high - e.low for e in expected])))
    return shares, widths


if __name__ == "__main__":
    main()
