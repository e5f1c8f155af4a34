"""Forest plot: a mean with its interval per method, grouped by prompt, as a small SVG."""

from collections.abc import Sequence
from html import escape
from itertools import groupby

from samling.evaluation.tables import Score, describe

_WIDTH, _LEFT, _RIGHT = 860, 250, 70
_ROW, _HEAD, _GAP, _FOOT = 24, 26, 8, 34


def forest(scores: Sequence[Score], model: str) -> str:
    """Dice of every score with its interval; the model's own are coloured. "" without any score."""
    shown = [score for score in scores if score.dice is not None]
    if not shown:
        return ""
    low = min(score.dice.low for score in shown if score.dice)
    start = min(0.9, max(0, int(low * 10)) / 10)
    parts: list[str] = []
    y = 0
    for protocol, members in groupby(shown, key=lambda score: score.protocol):
        y += _HEAD
        parts.append(
            f'<text x="0" y="{y - 6}" font-weight="600">{escape(describe(protocol))}</text>'
        )
        for score in members:
            y += _ROW
            parts.append(_line(score, y - _ROW / 2, start, own=score.method == model))
        y += _GAP
    grid = _grid(start, y)
    height = y + _FOOT
    words = "Mean Dice per prompt and method with 95% intervals"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img" '
        f'aria-label="{words}">{grid}{"".join(parts)}</svg>'
    )


def _x(value: float, start: float) -> float:
    return _LEFT + (value - start) / (1 - start) * (_WIDTH - _LEFT - _RIGHT)


def _line(score: Score, y: float, start: float, *, own: bool) -> str:
    assert score.dice is not None
    kind = "model" if own else "other"
    left, middle, right = (_x(v, start) for v in (score.dice.low, score.dice.mean, score.dice.high))
    weight = ' font-weight="600"' if own else ""
    marker = (
        f'<circle class="{kind}" cx="{middle:.1f}" cy="{y}" r="5.5"/>'
        if own
        else f'<rect class="{kind}" x="{middle - 4:.1f}" y="{y - 4}" width="8" height="8"/>'
    )
    return (
        f'<text x="{_LEFT - 14}" y="{y + 4.5}" text-anchor="end"{weight}>'
        f"{escape(_short(score.method))}</text>"
        f'<line class="{kind}" x1="{left:.1f}" x2="{right:.1f}" y1="{y}" y2="{y}" '
        'stroke-width="2"/>'
        f'{marker}<text x="{_WIDTH - 4}" y="{y + 4.5}" text-anchor="end"{weight}>'
        f"{score.dice.mean:.3f}</text>"
    )


def _grid(start: float, bottom: float) -> str:
    lines = []
    count = round((1 - start) * 10)
    every = 2 if count > 6 else 1
    for tick in range(0, count + 1, every):
        value = 1 - tick / 10
        x = _x(value, start)
        lines.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_HEAD}" y2="{bottom}"/>'
            f'<text class="soft" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">'
            f"{value:.1f}</text>"
        )
    return "".join(lines)


def _short(text: str) -> str:
    return text if len(text) <= 32 else text[:31] + "…"
