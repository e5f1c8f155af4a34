"""The tables of docs/results/cine.md: phantom loops with known truth, a real loop, memory of long loops.

python scripts/cine_table.py LOOP.dcm [MODEL [FRAMES]]     about 10 minutes on 2 idle CPU cores

LOOP.dcm is a multi-frame ultrasound file. MODEL is a run, a bundle or a name (`base`); FRAMES, 3000, the
longest loop.
"""

import resource
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.pixels import pixel_array
from uniultra_table import PAGE, write_between

import samling
from samling.data.phantom import PhantomCine
from samling.inference.arrays import grey
from samling.inference.cine import Followed, Follower, follow
from samling.inference.propagate import overlap
from samling.inference.segmenter import Segmenter
from samling.prompts.prompt import Prompt
from samling.prompts.sampling import components, tight_box

PATIENTS = (0, 1, 2, 3, 5, 6)
FRAMES = 120
"""Of a phantom loop: three breaths."""
MARKS = (1, 15, 30, 60, 119)
TARGET = 0.85
"""A frame below this Dice ought to ask for help."""


class Images(Sequence[Any]):
    """The images of a loop without its labels."""

    def __init__(self, loop: PhantomCine) -> None:
        self.loop = loop

    def __len__(self) -> int:
        return len(self.loop)

    def __getitem__(self, index: Any) -> Any:
        return self.loop[index][0]


def tables(model: Segmenter, path: Path, longest: int) -> Iterator[str]:
    """All tables, line by line."""
    yield f"### Phantom loops of {FRAMES} frames, the largest lesion boxed on frame 0\n"
    yield from _phantoms(model)
    yield "### When help must be asked for: the object is lost, or there never was one\n"
    yield from _lost(model)
    yield "### A real loop, boxed on its middle frame\n"
    yield from _real(model, path)
    yield "### Memory\n"
    yield from _memory(model, longest)


def _phantoms(model: Segmenter) -> Iterator[str]:
    titles = " | ".join(f"frame {mark}" for mark in MARKS)
    yield f"| patient | {titles} | mean | worst | asked for help | poor frames that did |"
    yield f"| --- |{' --- |' * (len(MARKS) + 4)}"
    for patient in PATIENTS:
        loop = PhantomCine(patient, FRAMES)
        dice, found = _followed(model, loop, (0,))
        yield _row(str(patient), dice, found)
        worst = min(dice, key=lambda index: dice[index])
        if worst and dice[worst] < TARGET:
            dice, found = _followed(model, loop, (0, worst))
            yield _row(f"{patient}, corrected on frame {worst}", dice, found)
    yield ""


def _lost(model: Segmenter) -> Iterator[str]:
    """The probe jumps while it is followed; and a box of the lesion's size where there is none."""
    yield (
        "| patient | after a jump of the probe: frames with Dice below 0.5 | of them asked "
        "| a box on tissue: frames | of them asked |"
    )
    yield "| --- | --- | --- | --- | --- |"
    for patient in PATIENTS:
        loop = PhantomCine(patient, FRAMES)
        jump = [*range(11), *range(30, 60)]  # from one end of its way to the other
        found = dict(follow(Follower(model), [loop[i][0] for i in jump], {0: _box(_first(loop))}))
        lost = [
            one.needs_help
            for place, one in found.items()
            if overlap(one.mask, _nearest(components(loop[jump[place]][1] > 0), _first(loop))) < 0.5
        ]
        tissue = [one.needs_help for one in _tissue(model, loop)]
        yield f"| {patient} | {len(lost)} | {sum(lost)} | {len(tissue)} | {sum(tissue)} |"
    yield ""


def _tissue(model: Segmenter, loop: PhantomCine) -> Iterator[Followed]:
    """What is found from a box of the lesion's size, where on frame 0 no lesion is."""
    image, labels = loop[0]
    x0, y0, x1, y1 = tight_box(_first(loop)).astype(int)
    free = [
        (x, y)
        for y in range(0, image.shape[0] - (y1 - y0), 8)
        for x in range(0, image.shape[1] - (x1 - x0), 8)
        if not labels[y : y + y1 - y0, x : x + x1 - x0].any()
    ]
    x, y = free[len(free) // 2]
    box = np.array([x, y, x + x1 - x0, y + y1 - y0], float)
    frames = [loop[index][0] for index in range(30)]
    for _, one in follow(Follower(model), frames, {0: Prompt(box=box)}):
        yield one


def _box(lesion: Any) -> Prompt:
    return Prompt(box=tight_box(lesion))


def _followed(
    model: Segmenter, loop: PhantomCine, anchors: tuple[int, ...]
) -> tuple[dict[int, float], dict[int, Followed]]:
    """Dice and answers by frame; boxes from the truth of the anchors, of the largest lesion of frame 0."""
    prompts = {}
    for anchor in anchors:
        lesions = components(loop[anchor][1] > 0)
        prompts[anchor] = _box(_nearest(lesions, _first(loop)))
    found = dict(follow(Follower(model), Images(loop), prompts))
    dice = {
        i: overlap(one.mask, _nearest(components(loop[i][1] > 0), _first(loop)))
        for i, one in found.items()
    }
    return dice, found


def _first(loop: PhantomCine) -> Any:
    return components(loop[0][1] > 0)[0]


def _nearest(lesions: list[Any], wanted: Any) -> Any:
    """The lesion whose centre is nearest to that of `wanted`: lesions keep their distances."""
    centre = np.argwhere(wanted).mean(0)
    return min(lesions, key=lambda one: float(np.hypot(*(np.argwhere(one).mean(0) - centre))))


def _row(title: str, dice: dict[int, float], found: dict[int, Followed]) -> str:
    poor = [index for index, value in dice.items() if value < TARGET]
    asked = [index for index, one in found.items() if one.needs_help]
    told = f"{len(set(poor) & set(asked))} of {len(poor)}"
    marks = " | ".join(f"{dice[mark]:.3f}" for mark in MARKS)
    values = list(dice.values())
    return (
        f"| {title} | {marks} | {np.mean(values):.3f} | {min(values):.3f} | {len(asked)} | {told} |"
    )


def _real(model: Segmenter, path: Path) -> Iterator[str]:
    """Without truth: how steady the area is, and whether the way back leads to where it began."""
    frames = [grey(frame) for frame in pixel_array(pydicom.dcmread(path))]
    height, width = frames[0].shape
    box = np.array([0.3 * width, 0.3 * height, 0.7 * width, 0.7 * height])
    middle = len(frames) // 2
    found = dict(follow(Follower(model), frames, {middle: Prompt(box=box)}))
    steps = [overlap(found[i].mask, found[i + 1].mask) for i in range(len(frames) - 1)]
    areas = np.array([found[i].mask.mean() for i in range(len(frames))])
    asked = sum(one.needs_help for one in found.values())
    confidence = np.mean([one.confidence for one in found.values()])
    yield "| frames | size | least Dice of neighbours | area of the picture | confidence | asked |"
    yield "| --- | --- | --- | --- | --- | --- |"
    cells = [len(frames), f"{width} × {height}", f"{min(steps):.3f}"]
    cells += [f"{areas.min():.1%} to {areas.max():.1%}", f"{confidence:.2f}", asked]
    yield f"| {' | '.join(map(str, cells))} |\n"


def _memory(model: Segmenter, longest: int) -> Iterator[str]:
    """Peak of the process after so many frames of one loop, which are drawn as they are asked for."""
    loop = PhantomCine(0, longest, (128, 160))
    first = components(loop[0][1] > 0)[0]
    started, peaks = time.perf_counter(), {}
    steps = follow(Follower(model), Images(loop), {0: _box(first)})
    for done, _ in enumerate(steps, start=1):
        if done in (30, 300, longest):
            peaks[done] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    seconds = time.perf_counter() - started
    yield f"| frames | {' | '.join(f'{count:,}' for count in peaks)} |"
    yield f"| --- |{' --- |' * len(peaks)}"
    yield f"| peak memory of the process, MB | {' | '.join(f'{peak:.0f}' for peak in peaks.values())} |\n"
    yield f"{1000 * seconds / longest:.0f} ms a frame, drawing the phantom (128 × 160) included."


def main(arguments: list[str]) -> None:
    """Measure, and write into the page."""
    name = arguments[1] if len(arguments) > 1 else "base"
    longest = int(arguments[2]) if len(arguments) > 2 else 3000
    made = "\n".join(tables(samling.load(name), Path(arguments[0]), longest))
    write_between(PAGE.with_name("cine.md"), made)


if __name__ == "__main__":
    main(sys.argv[1:])
