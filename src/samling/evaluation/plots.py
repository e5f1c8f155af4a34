"""Plots of an evaluation: Dice against jitter, box plots, accuracy against cost; as PNG."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log10
from pathlib import Path
from typing import Any

from samling.atomic import atomic_path
from samling.evaluation.calibration import Reliability
from samling.evaluation.curves import COLOURS, MARKERS
from samling.evaluation.drop import blind, changes
from samling.evaluation.run import Row
from samling.evaluation.statistics import Interval, MeanOver
from samling.evaluation.tables import Score, describe

_NAME_DECADES = 0.28
"""So close on the logarithmic axis, the names of two dots would lie over each other."""


def jitter_curves(scores: Sequence[Score]) -> dict[str, list[tuple[int, Interval]]]:
    """Per method the mean Dice at each jitter of the box in percent, rising; `box` is 0.

    Methods with a single level have no curve and are left out.
    """
    found: dict[str, list[tuple[int, Interval]]] = {}
    for score in scores:
        boxed = score.protocol == "box" or score.protocol.startswith("jitter")
        if boxed and score.dice is not None:
            level = int(score.protocol.removeprefix("jitter")) if score.protocol != "box" else 0
            found.setdefault(score.method, []).append((level, score.dice))
    return {
        method: sorted(points, key=lambda point: point[0])
        for method, points in found.items()
        if len(points) > 1
    }


def draw_robustness(
    scores: Sequence[Score], path: Path, methods: Sequence[str] = ()
) -> Path | None:
    """Dice against the jitter of the box with 95% bands; None if fewer than two levels were asked.

    Args:
        methods: an order that gives each its colour, the same in all pictures that are given it.
    """
    curves = jitter_curves(scores)
    if not curves:
        return None
    figure, axes = _figure(7.5, 4.2)
    numbers = _numbers(methods, curves)
    for method, points in curves.items():
        _plot_band(axes, points, method, numbers[method])
    axes.set(xlabel="each side of the box moved by up to ± %", ylabel="mean Dice")
    axes.set_xticks(sorted({level for points in curves.values() for level, _ in points}))
    axes.legend(frameon=False, fontsize=9)
    return _saved(figure, path)


def draw_boxes(
    values: Mapping[str, Mapping[str, Sequence[float]]], path: Path, methods: Sequence[str] = ()
) -> Path | None:
    """Box plots of Dice per image: a panel per protocol, a box per method; None without values.

    Args:
        values: protocol -> method -> Dice of every image. Box: quartiles; line: median; whiskers:
            5th and 95th percentile; triangle: mean; dots: images beyond the whiskers.
        path: PNG to write.
        methods: an order that gives each its colour, as in `draw_robustness`.
    """
    shown = {protocol: answered for protocol, answered in values.items() if answered}
    if not shown:
        return None
    numbers = _numbers(methods, (method for answered in shown.values() for method in answered))
    heights = [0.42 * len(answered) + 0.9 for answered in shown.values()]
    figure, _ = _figure(8.5, sum(heights), rows=len(shown))
    figure.axes[0].get_gridspec().set_height_ratios(heights)
    for axes, (protocol, answered) in zip(figure.axes, shown.items(), strict=True):
        drawn = axes.boxplot(
            list(answered.values()),
            orientation="horizontal",
            whis=(5, 95),
            showmeans=True,
            widths=0.6,
            patch_artist=True,
            tick_labels=list(answered),
            flierprops={"markersize": 3},
            medianprops={"color": "black"},
            meanprops={"markerfacecolor": "white", "markeredgecolor": "black"},
        )
        for method, box in zip(answered, drawn["boxes"], strict=True):
            again = numbers[method] >= len(COLOURS)
            box.set(facecolor=_style(numbers[method])["color"], alpha=0.55, hatch="//" * again)
        axes.set(title=describe(protocol), xlabel="Dice", xlim=(-0.02, 1.02))
        axes.invert_yaxis()
    return _saved(figure, path)


@dataclass(frozen=True)
class Priced:
    """A method's accuracy and cost, for one point of the plot."""

    method: str
    dice: Interval
    ms: float
    parameters: int | None
    file_mb: float | None = None


def draw_cost(
    points: Sequence[Priced], path: Path, title: str = "", methods: Sequence[str] = ()
) -> Path | None:
    """Mean Dice against milliseconds per image and megabytes of file, logarithmic; None without any point.

    The area of a dot grows with the square root of the number of parameters. Without a file of any method
    there is no second panel.

    Args:
        methods: an order that gives each its colour, as in `draw_robustness`.
    """
    if not points:
        return None
    panels = [("ms per image (one prompt)", [(point, point.ms) for point in points])]
    stored = [(point, point.file_mb) for point in points if point.file_mb]
    if stored:
        panels.append(("MB of file, an adapter's without its base", stored))
    figure, _ = _figure(7.5, 4.4 * len(panels), rows=len(panels))
    numbers = _numbers(methods, (point.method for point in points))
    for axes, (label, placed) in zip(figure.axes, panels, strict=True):
        _scatter(axes, placed, numbers)
        axes.set(xlabel=label, ylabel="mean Dice")
    figure.axes[0].set_title(title)
    return _saved(figure, path)


def _scatter(axes: Any, placed: Sequence[tuple[Priced, float]], numbers: Mapping[str, int]) -> None:
    """Points at their cost, with interval and name."""
    for point, x in placed:
        error = [[point.dice.mean - point.dice.low], [point.dice.high - point.dice.mean]]
        colour = _style(numbers[point.method])["color"]
        axes.errorbar(x, point.dice.mean, yerr=error, color=colour, linewidth=1.2)
        size = 30 + 20 * ((point.parameters or 0) / 1e6) ** 0.5
        axes.scatter(x, point.dice.mean, s=size, color=colour, alpha=0.7, zorder=3)
    axes.set_xscale("log")
    axes.margins(x=0.2)
    costs = [x for _, x in placed]
    low, high = axes.get_xlim()  # of nearly equal costs a tiny range: names would lie far outside
    axes.set_xlim(min(low, min(costs) / 2), max(high, 2 * max(costs)))
    _name_points(axes, placed)


def _name_points(axes: Any, points: Sequence[tuple[Priced, float]]) -> None:
    """A name beside each dot, moved down where it would cover the one above it."""
    low, high = axes.get_ylim()
    line = 0.033 * (high - low)
    placed: list[tuple[float, float]] = []
    for point, cost in sorted(points, key=lambda one: -one[0].dice.mean):
        x, y = log10(cost), point.dice.mean
        above = [other for at, other in placed if abs(at - x) < _NAME_DECADES]
        y = min([y, *(other - line for other in above)])
        placed.append((x, y))
        axes.annotate(
            point.method,
            (cost, point.dice.mean),
            (1.25 * cost, y),
            fontsize=9,
            va="center",
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": "0.5"},
        )


def draw_damage(
    rows: Sequence[Row], path: Path, over: MeanOver = "image", methods: Sequence[str] = ()
) -> Path | None:
    """Change of Dice at each level of a damage, a panel each, with 95% bands; None if none was asked for.

    Of several prompts the first that was damaged is shown; the table has all.

    Args:
        methods: an order that gives each its colour, as in `draw_robustness`.
    """
    found = changes(rows, over)
    same = blind(found)
    found = {key: levels for key, levels in found.items() if key[0] not in same}
    if not found:
        return None
    first = next(prompt for _, prompt, _ in found)
    names = list(dict.fromkeys(name for _, prompt, name in found if prompt == first))
    height, columns = -(-len(names) // 4), min(4, len(names))
    figure, _ = _figure(1.5 + 2.2 * columns, 2.2 * height + 0.9, height, columns)
    shown = list(dict.fromkeys(method for method, _, _ in found))
    numbers = _numbers(methods, shown)
    for axes, name in zip(figure.axes, names, strict=False):
        for method in shown:
            levels = found.get((method, first, name), {})
            points = [
                (level, Interval(100 * c.mean, 100 * c.low, 100 * c.high))
                for level, c in levels.items()
            ]
            _plot_band(axes, points, method, numbers[method])
        axes.set(title=name, xticks=range(4))
    for axes in figure.axes[len(names) :]:
        axes.remove()
    low = min(axes.get_ylim()[0] for axes in figure.axes)
    high = max(axes.get_ylim()[1] for axes in figure.axes)
    for axes in figure.axes:  # one scale: or a small drop looks like a large one
        axes.set_ylim(low, high)
    figure.supxlabel(f"level of damage, {describe(first)}")
    figure.supylabel("change in points of Dice")
    _legend_above(figure, len(shown))
    return _saved(figure, path)


def _legend_above(figure: Any, count: int) -> None:
    """A legend in as many columns as fit; the figure grows by its height."""
    shown = figure.axes[0].get_legend_handles_labels()
    for columns in range(count, 0, -1):
        legend = figure.legend(
            *shown, loc="outside upper left", ncols=columns, frameon=False, fontsize=8
        )
        box = legend.get_window_extent()
        width, height = box.width / figure.dpi + 0.2, box.height / figure.dpi  # inches
        if width <= figure.get_figwidth() or columns == 1:
            break
        legend.remove()
    figure.set_size_inches(max(figure.get_figwidth(), width), figure.get_figheight() + height)


def draw_reliability(diagrams: Mapping[str, Reliability], path: Path) -> Path:
    """Predicted against observed means per bin; on the diagonal is what is calibrated."""
    figure, axes = _figure(5.2, 4.6)
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=":")
    for number, (name, found) in enumerate(diagrams.items()):
        label = f"{name} (error {found.error:.3f})"
        axes.plot(found.predicted, found.observed, label=label, **_style(number))
    axes.set(xlabel="predicted", ylabel="observed", xlim=(0, 1), ylim=(0, 1))
    if diagrams:
        axes.legend(frameon=False, fontsize=8)
    return _saved(figure, path)


def draw_risk(curves: Mapping[str, tuple[Any, Any]], path: Path) -> Path:
    """Mean 1 - Dice of what is kept against the share kept, the surest first."""
    figure, axes = _figure(5.2, 3.6)
    for number, (name, (share, risk)) in enumerate(curves.items()):
        axes.plot(share, risk, label=name, color=COLOURS[number % len(COLOURS)], linewidth=1.6)
    axes.set(xlabel="share of objects kept, the surest first", ylabel="1 - mean Dice of these")
    if curves:
        axes.legend(frameon=False, fontsize=9)
    return _saved(figure, path)


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns)
    for one in figure.axes:
        one.grid(alpha=0.3)
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _plot_band(axes: Any, points: Sequence[tuple[int, Interval]], label: str, number: int) -> None:
    levels, style = [level for level, _ in points], _style(number)
    axes.plot(levels, [dice.mean for _, dice in points], label=label, **style)
    low, high = [dice.low for _, dice in points], [dice.high for _, dice in points]
    axes.fill_between(levels, low, high, color=style["color"], alpha=0.12, linewidth=0)


def _numbers(methods: Sequence[str], shown: Iterable[str]) -> dict[str, int]:
    """Method -> number of its style: its place in an order, after that whoever is not there."""
    return {name: number for number, name in enumerate(dict.fromkeys([*methods, *shown]))}


def _style(number: int) -> dict[str, Any]:
    """Colour and marker; where colours begin anew, markers do not."""
    colour = COLOURS[number % len(COLOURS)]
    marker = MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]
    return {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.6}


def _saved(figure: Any, path: Path) -> Path:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    return path
