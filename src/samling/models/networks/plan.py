"""nnU-Net's rules for the shape of a U-Net (Isensee et al. 2021, supplementary note 2)."""

from collections.abc import Sequence
from dataclasses import dataclass

SMALLEST_EDGE = 4
FIRST_FEATURES = 32
MOST_FEATURES = {2: 512, 3: 320}


@dataclass(frozen=True)
class Plan:
    """One entry per stage, the first at full size."""

    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    features: tuple[int, ...]


def plan_unet(
    size: Sequence[int], spacing: Sequence[float], first_features: int = FIRST_FEATURES
) -> Plan:
    """Topology for patches of this size (pixels) and spacing (mm), 2 or 3 axes alike.

    An axis is halved while its edge stays at 4 or more and its spacing is less than twice the
    finest; a kernel is 1 along an axis as long as that is twice as coarse as the finest. Features
    double up to 512 in two dimensions, 320 in three.

    >>> len(plan_unet((256, 256), (1, 1)).features)
    7
    """
    edges, steps = list(size), list(spacing)
    axes = range(len(edges))
    strides, kernels = [(1,) * len(edges)], []
    while able := [i for i in axes if edges[i] >= 2 * SMALLEST_EDGE]:
        finest = min(steps[i] for i in able)
        halved = [i for i in able if steps[i] < 2 * finest]
        kernels.append(_kernel(steps))
        strides.append(tuple(2 if i in halved else 1 for i in axes))
        for i in halved:
            edges[i], steps[i] = -(-edges[i] // 2), 2 * steps[i]
    kernels.append((3,) * len(edges))
    most = MOST_FEATURES[len(edges)]
    features = tuple(min(first_features * 2**stage, most) for stage in range(len(strides)))
    return Plan(tuple(strides), tuple(kernels), features)


def _kernel(steps: Sequence[float]) -> tuple[int, ...]:
    finest = min(steps)
    return tuple(3 if step < 2 * finest else 1 for step in steps)
