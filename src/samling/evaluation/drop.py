"""Drop: what a damage of the picture changes in Dice, image by image."""

from collections.abc import Sequence

from samling.evaluation.damage import divided
from samling.evaluation.formats import signed
from samling.evaluation.report import Table
from samling.evaluation.run import Row
from samling.evaluation.statistics import Interval, MeanOver, mean_ci
from samling.evaluation.tables import describe, means_are

Levels = dict[int, Interval]


def changes(rows: Sequence[Row], over: MeanOver = "image") -> dict[tuple[str, str, str], Levels]:
    """(method, prompt, damage) -> level -> mean change of Dice against the picture as it was.

    Paired: each image with itself, so that the interval is that of the change; an interval of each mean is
    mostly the images' own difference. Level 0 is the picture as it was.
    """
    whole = {
        (row.method, row.protocol, row.id): row.dice
        for row in rows
        if row.dice is not None and not divided(row.protocol)[1]
    }
    paired: dict[tuple[str, str, str], dict[int, list[tuple[float, str]]]] = {}
    for row in rows:
        prompt, damage = divided(row.protocol)
        before = whole.get((row.method, prompt, row.id))
        if damage and before is not None and row.dice is not None:
            levels = paired.setdefault((row.method, prompt, damage[:-1]), {})
            levels.setdefault(int(damage[-1]), []).append((row.dice - before, row.group))
    found: dict[tuple[str, str, str], Levels] = {}
    for key, levels in paired.items():
        means = {
            level: mean_ci([d for d, _ in values], [g for _, g in values], over=over)
            for level, values in sorted(levels.items())
        }
        found[key] = {0: Interval(0.0, 0.0, 0.0), **means}
    return found


def blind(found: dict[tuple[str, str, str], Levels]) -> list[str]:
    """Methods that no damage changes, as those that do not look; [] where it changes no method."""
    moved = {
        method
        for (method, _, _), levels in found.items()
        if any(change.low or change.high for change in levels.values())
    }
    return list(dict.fromkeys(m for m, _, _ in found if m not in moved)) if moved else []


def drop_table(rows: Sequence[Row], over: MeanOver = "image") -> Table | None:
    """Change of Dice by method, damage and level; None if no damage was asked for."""
    found = changes(rows, over)
    if not found:
        return None
    lines, same = [], blind(found)
    for (method, prompt, damage), levels in found.items():
        if method in same:
            continue
        own = [r for r in rows if (r.method, r.protocol) == (method, prompt) and r.dice is not None]
        clean = mean_ci([r.dice or 0.0 for r in own], [r.group for r in own], over=over)
        cells = [_points(levels[n]) if n in levels else "–" for n in (1, 2, 3)]
        lines.append((method, describe(prompt), damage, f"{clean.mean:.3f}", *cells))
    header = ("Method", "Prompt", "Damage", "Dice as it was", "Level 1", "Level 2", "Level 3")
    caption = (
        "Change in points of Dice (95% interval) on damaged pictures, each image against itself, "
        f"labels and prompts unchanged. {means_are(over)} See docs/metrics.md."
    )
    if same:
        caption += f" Nothing changes {', '.join(same)}."
    return Table(header, tuple(lines), caption, text_columns=(0, 1, 2))


def _points(change: Interval) -> str:
    mean, low, high = (signed(100 * value) for value in (change.mean, change.low, change.high))
    return mean if low == high else f"{mean} ({low} to {high})"
