"""The tables of docs/results/uniultra.md from what scripts/uniultra.sh left behind, written into the page.

python scripts/uniultra_table.py OUT [PAGE]
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lg_medseg_table import cell
from safetensors import safe_open

PAGE = Path(__file__).parents[1] / "docs" / "results" / "uniultra.md"
START, END = "<!-- tables: a script writes them -->", "<!-- end of the tables -->"
SETS = {
    "breast_busi": "breast (BUSI)",
    "thyroid_ddti": "thyroid (DDTI)",
    "fetal_hc18": "fetal head (HC18)",
    "nerve_usgra": "nerve (usgra)",
    "ovary_mmotu": "ovary (MMOTU)",
}
PROMPTS = {"box": "tight box", "jitter10": "box ± 10 %", "point1": "one point"}
ONE_OR_MANY = {
    "ellipse in the box": "ellipse in the box",
    "base": "base, not adapted",
    "universal": "one adapter for all organs",
    "organ": "an adapter of its own",
    "without": "an adapter that never saw this set",
}
ADAPTERS = {
    "base": "none",
    "decoder": "decoder only",
    "lr": "LRAdapter",
    "lora": "LoRA",
    "serial": "serial bottleneck",
    "universal": "CH-Adapter",
    "med2d": "SAM-Med2D's",
    "full": "full fine-tuning",
}
Scores = dict[tuple[str, str, str], dict[str, float]]


def write_between(page: Path, made: str) -> None:
    """Replace what stands between the page's two markers."""
    before, rest = page.read_text(encoding="utf-8").split(START)
    after = rest.split(END)[1]
    page.write_text(f"{before}{START}\n\n{made}\n\n{END}{after}", encoding="utf-8")
    print(page)


def tables(out: Path) -> Iterator[str]:
    """All tables, line by line; what was not measured is a dash."""
    scores = dict(scores_of(out))
    for protocol, words in PROMPTS.items():
        yield f"### One model for many organs: Dice, {words}\n"
        yield from by_set(scores, protocol, ONE_OR_MANY)
    yield "### Adapters on the same base, data and budget\n"
    yield (
        f"| | {' | '.join(f'Dice, {p}' for p in PROMPTS.values())} "
        "| trained weights | file | s per step | peak memory |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for method, title in ADAPTERS.items():
        means = " | ".join(mean_of(scores, method, protocol) for protocol in PROMPTS)
        yield f"| {title} | {means} | {_cost(out / 'runs' / method)} |"
    yield "\nMeans over the five organs; the intervals, organ by organ, tight box:\n"
    yield from by_set(scores, "box", ADAPTERS)
    yield "### What was run\n"
    yield from _runs(out)


def scores_of(out: Path) -> Iterator[tuple[tuple[str, str, str], dict[str, float]]]:
    """(set, method, protocol) -> mean Dice and its interval."""
    for name in SETS:
        path = out / "compare" / name / "comparison.json"
        if not path.is_file():
            continue
        content = json.loads(path.read_text(encoding="utf-8"))
        for score in content["stores"][name]["scores"]:
            if score["dice"] is not None:
                yield (name, score["method"], score["protocol"]), score["dice"]


def by_set(scores: Scores, protocol: str, methods: dict[str, str]) -> Iterator[str]:
    """A table of one prompt kind: a row per method, a column per set."""
    yield f"| | {' | '.join(SETS.values())} |"
    yield f"| --- |{' --- |' * len(SETS)}"
    for method, title in methods.items():
        cells = [cell(scores.get((name, method, protocol))) for name in SETS]
        yield f"| {title} | {' | '.join(cells)} |"
    yield ""


def mean_of(scores: Scores, method: str, protocol: str) -> str:
    """Mean over the sets, or a dash if one was not measured."""
    found = [scores.get((name, method, protocol)) for name in SETS]
    means = [score["mean"] for score in found if score is not None]
    return f"{sum(means) / len(means):.3f}" if len(means) == len(SETS) else "–"


def _cost(run: Path) -> str:
    """Trained weights, size of the file, seconds of a step and memory of the first epoch."""
    path = run / "adapter.safetensors"
    rows = metrics_of(run)
    if not path.is_file() or not rows:
        return "– | – | – | –"
    with safe_open(path, framework="np") as stream:
        weights = sum(stream.get_tensor(key).size for key in stream.keys())  # noqa: SIM118
    steps = rows[-1]["step"]
    seconds = sum(row["seconds"] for row in rows) / steps
    size, memory = path.stat().st_size / 1e6, rows[0]["peak_memory_mb"]
    return f"{weights:,} | {size:.1f} MB | {seconds:.2f} | {memory:,} MB"


def _runs(out: Path) -> Iterator[str]:
    yield "| run | minutes of training | images/s | best epoch |"
    yield "| --- | --- | --- | --- |"
    for path in sorted((out / "runs").rglob("metrics.jsonl")):
        if not (path.parent / "curves.png").is_file():
            continue
        rows = metrics_of(path.parent)
        best = max(rows, key=lambda row: row["val"]["score"])
        minutes = sum(row["seconds"] for row in rows) / 60
        speed = sum(row["images_per_second"] for row in rows) / len(rows)
        name = path.parent.relative_to(out / "runs")
        yield f"| {name} | {minutes:.1f} | {speed:.1f} | {best['epoch']} of {len(rows)} |"


def metrics_of(run: Path) -> list[dict[str, Any]]:
    """Rows of a run's metrics.jsonl."""
    path = run / "metrics.jsonl"
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else PAGE
    write_between(target, "\n".join(tables(Path(sys.argv[1]))))
