"""How far two labels of (nearly) the same picture agree: how sharp the ruler is.

python scripts/label_agreement.py STORE.h5 ...      training and validation images, never test images

Pairs of one group whose pictures, 128 x 128, correlate above a limit and whose labels hold one object.
"With the box": one label moved and stretched until its tight box is the other's, as for a model that is
given the box.
"""

import itertools
import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from samling.data.case import Case
from samling.data.store import Store
from samling.evaluation.metrics import dice
from samling.evaluation.statistics import mean_ci
from samling.prompts.sampling import objects, tight_box

LIMITS = (0.99, 0.98, 0.97, 0.95)
SIDE = 128


class Pair(NamedTuple):
    """Two pictures of one group: how alike they are, and how alike their labels."""

    group: str
    correlation: float
    as_drawn: float
    with_box: float


def main() -> None:
    """Print a Markdown table."""
    print("| | pictures correlate above | pairs (groups) | labels as drawn | with the box |")
    print("| --- | --- | --- | --- | --- |")
    for path in sys.argv[1:]:
        store = Store.open(path)
        found = list(pairs(store))
        for limit in LIMITS:
            kept = [pair for pair in found if pair.correlation > limit]
            groups = [pair.group for pair in kept]
            if len(set(groups)) > 1:
                cells = (
                    f"{ci.mean:.3f} ({ci.low:.3f}–{ci.high:.3f})"
                    for ci in (
                        mean_ci([getattr(pair, name) for pair in kept], groups)
                        for name in ("as_drawn", "with_box")
                    )
                )
                count = f"{len(kept)} ({len(set(groups))})"
                print(
                    f"| {store.path.stem} | {limit} | {count} | {' | '.join(cells)} |", flush=True
                )


def pairs(store: Store) -> Iterator[Pair]:
    """Of the groups of training and validation images."""
    groups = defaultdict(list)
    for id in (*store.splits.train.ids, *store.splits.val.ids):
        groups[store.meta(id).group].append(id)
    for group, ids in groups.items():
        cases = [case for id in ids if len(objects((case := store.case(id)).labels)) == 1]
        for one, other in itertools.combinations(cases, 2):
            correlation = np.corrcoef(small(one).ravel(), small(other).ravel())[0, 1]
            if correlation > min(LIMITS):
                first, second = one.labels > 0, other.labels > 0
                drawn = cv2.resize(
                    first.astype(np.uint8),
                    second.shape[::-1],
                    interpolation=cv2.INTER_NEAREST_EXACT,
                )
                as_drawn = dice(second, drawn > 0)
                yield Pair(group, correlation, as_drawn, dice(second, boxed(first, second)))


def small(case: Case) -> NDArray[np.float32]:
    """The picture, 128 x 128."""
    picture = case.image.astype(np.float32)
    return cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def boxed(label: NDArray[np.bool_], other: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`label` moved and stretched onto the tight box of `other`, in the picture of `other`."""
    (x0, y0, x1, y1), (u0, v0, u1, v1) = tight_box(label), tight_box(other)
    sx, sy = (x1 - x0) / (u1 - u0), (y1 - y0) / (v1 - v0)
    # from pixel indices of `other` to those of `label`, whose centres lie half a pixel further on
    matrix = np.array([[sx, 0, x0 + (0.5 - u0) * sx - 0.5], [0, sy, y0 + (0.5 - v0) * sy - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(label.astype(np.float32), matrix, other.shape[::-1], flags=flags)
    return moved > 0.5


if __name__ == "__main__":
    main()
