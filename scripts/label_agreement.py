"""How far two labels of (nearly) the same picture agree: how sharp the ruler is.

python scripts/label_agreement.py STORE.h5 ...      training and validation images, never test images

Pairs of one group whose pictures, 128 x 128, correlate above a limit and whose labels hold one object.
"In one box": one label moved and stretched until its tight box is the other's, as for a model that is given
the box. "Midway": the outline between both (mean of their signed distances) against either of them, which
is what a model would reach that knew it. "Base": the base on the same two pictures, with each one's tight
box; most of them were in its training.
"""

import itertools
import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

import samling
from samling.data.case import Case
from samling.data.store import Store
from samling.evaluation.metrics import dice
from samling.evaluation.statistics import mean_ci
from samling.inference.segmenter import Segmenter
from samling.prompts.sampling import objects, tight_box

LIMITS = (0.99, 0.98, 0.97, 0.95)
SIDE = 128
Mask = NDArray[np.bool_]


class Pair(NamedTuple):
    """Two pictures of one group: how alike they are, and how alike their labels."""

    group: str
    correlation: float
    as_drawn: float
    in_one_box: float
    midway: float
    base: float


COLUMNS = ("as_drawn", "in_one_box", "midway", "base")


def main() -> None:
    """Print a Markdown table."""
    model = samling.load("base")
    heads = ["pictures correlate above", "pairs (groups)", "labels as drawn", "in one box"]
    print(f"| | {' | '.join(heads)} | midway | base |\n| --- |{' --- |' * 6}")
    for path in sys.argv[1:]:
        store = Store.open(path)
        found = list(pairs(store, model))
        for limit in LIMITS:
            kept = [pair for pair in found if pair.correlation > limit]
            groups = [pair.group for pair in kept]
            cells = [mean(kept, name, groups) if kept else "–" for name in COLUMNS]
            count = f"{len(kept)} ({len(set(groups))})"
            print(f"| {store.path.stem} | {limit} | {count} | {' | '.join(cells)} |", flush=True)


def mean(found: list[Pair], name: str, groups: list[str]) -> str:
    """With an interval over groups; one group has none."""
    ci = mean_ci([getattr(pair, name) for pair in found], groups)
    return f"{ci.mean:.3f}" + (f" ({ci.low:.3f}–{ci.high:.3f})" if len(set(groups)) > 1 else "")


def pairs(store: Store, model: Segmenter) -> Iterator[Pair]:
    """Of the groups of training and validation images."""
    groups = defaultdict(list)
    for id in (*store.splits.train.ids, *store.splits.val.ids):
        groups[store.meta(id).group].append(id)
    for group, ids in groups.items():
        cases = [store.case(id) for id in ids] if len(ids) > 1 else []
        single = [case for case in cases if len(objects(case.labels)) == 1]
        for one, other in itertools.combinations(single, 2):
            correlation = np.corrcoef(small(one).ravel(), small(other).ravel())[0, 1]
            if correlation > min(LIMITS):
                first, second = one.labels > 0, other.labels > 0
                moved = boxed(first, second)
                middle = (signed_distance(moved) + signed_distance(second)) > 0
                yield Pair(
                    group,
                    correlation,
                    dice(second, resized(first, second.shape)),
                    dice(second, moved),
                    (dice(second, middle) + dice(moved, middle)) / 2,
                    (found_by(model, one) + found_by(model, other)) / 2,
                )


def small(case: Case) -> NDArray[np.float32]:
    """The picture, 128 x 128."""
    picture = case.image.astype(np.float32)
    return cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def resized(label: Mask, shape: tuple[int, ...]) -> Mask:
    """A label at another picture's size."""
    nearest = cv2.INTER_NEAREST_EXACT
    return cv2.resize(label.astype(np.uint8), shape[::-1], interpolation=nearest) > 0


def boxed(label: Mask, other: Mask) -> Mask:
    """`label` moved and stretched onto the tight box of `other`, in the picture of `other`."""
    (x0, y0, x1, y1), (u0, v0, u1, v1) = tight_box(label), tight_box(other)
    sx, sy = (x1 - x0) / (u1 - u0), (y1 - y0) / (v1 - v0)
    # from pixel indices of `other` to those of `label`, whose centres lie half a pixel further on
    matrix = np.array([[sx, 0, x0 + (0.5 - u0) * sx - 0.5], [0, sy, y0 + (0.5 - v0) * sy - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(label.astype(np.float32), matrix, other.shape[::-1], flags=flags)
    return moved > 0.5


def signed_distance(label: Mask) -> NDArray[np.float64]:
    """To the outline, in pixels; positive inside."""
    return np.asarray(distance_transform_edt(label) - distance_transform_edt(~label))


def found_by(model: Segmenter, case: Case) -> float:
    """Dice of the model with the label's tight box."""
    label = case.labels > 0
    masks, _ = model.predict(case.image, boxes=[tight_box(label)])
    return dice(label, masks[0])


if __name__ == "__main__":
    main()
