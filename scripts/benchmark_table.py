"""The tables of docs/results/benchmark.md, or benchmark-quick.md, from what scripts/benchmark.sh left.

python scripts/benchmark_table.py OUT quick|full
"""

import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import yaml
from uniultra_table import PAGE, write_between

from samling.errors import InputError

PROTOCOLS = {
    "box": "tight box",
    "jitter10": "box ± 10 %",
    "point1": "one point",
    "auto": "automatic",
}
PLANS = {"full": ["full-BUSI", "full"], "quick": ["quick"]}
SCHEMA = 2
"""Of comparison.json."""
PAGES = {"full": "benchmark.md", "quick": "benchmark-quick.md"}
TRAINED = {
    "quick": ("One network for all six sets", "[!f]*/config.yaml"),
    "full": (
        "One network per set, BUSI's with three seeds (means over them)",
        "full-*/config.yaml",
    ),
}
"""What is trained in a grid, and where the runs' configs are."""


def main(out: Path, size: str) -> None:
    """Print the tables."""
    paths = [out / plan / "comparison.json" for plan in PLANS[size]]
    for path in paths:
        if not path.is_file() or json.loads(path.read_text("utf-8"))["schema"] != SCHEMA:
            remedy = f"run scripts/benchmark.sh FOLDER {out} {size} again"
            raise InputError(path, "is not there, or of an earlier form", remedy)
    _grid(out, size, [json.loads(path.read_text("utf-8")) for path in paths])
    _controls(out)


def _grid(out: Path, size: str, parts: list[dict[str, Any]]) -> None:
    taken = out / f"{size}.seconds"
    seconds = sum(map(int, taken.read_text("utf-8").split())) if taken.is_file() else 0
    machine = parts[0]["environment"]["machine"]
    print(f"## The {size} grid\n\nBudget of everything trained: {_budget(out, size)}.")
    print(f"All of it took {seconds / 60:.0f} minutes on {machine}.\n")
    for part in parts:
        for store, content in part["stores"].items():
            _store(store, content)
            _spread(content)
    _cost(parts[0])
    missing = [failure for part in parts for failure in part["failures"]]
    if missing:
        print("### Not measured\n")
        said = "\n".join(f"- {failure.partition(' Remedy:')[0]}" for failure in missing)
        print(said.replace(str(out), "OUT") + "\n")  # where it was run is nobody's business


def _budget(out: Path, size: str) -> str:
    """What the runs were allowed, read from their saved configs, so that no page can say otherwise."""
    trained, pattern = TRAINED[size]
    found = [c for c in sorted((out / "runs").glob(pattern)) if c.parent.name != "shuffled"]
    allowed = sorted({_allowed(yaml.safe_load(c.read_text(encoding="utf-8"))) for c in found})
    said = " / ".join(allowed) or "no run is there"
    return f"{trained}; {said}. The base has seen these sets' training images before"


def _allowed(recipe: dict[str, Any]) -> str:
    training = recipe["training"]
    epochs, images = training["epochs"], training["images_per_epoch"]
    side = recipe.get("network", {}).get("input_size")
    what = f"networks from scratch at {side} px" if side else "the adapter at 256 px on the base"
    shown = f"{images} images ({epochs * images:,} shown)" if images else "all training images"
    return f"{what}: {epochs} epochs of {shown}, batches of {training['batch_size']}"


def _store(store: str, content: dict[str, Any]) -> None:
    """One row per method. Columns are of different images where some show no object: each says how many."""
    scores = {(s["method"], s["protocol"]): s for s in content["scores"]}
    methods = list(dict.fromkeys(method for method, _ in scores))
    sizes = {p: max((s["n"] for s in content["scores"] if s["protocol"] == p), default=0)
             for p in PROTOCOLS}  # fmt: skip
    empty = max((s["n_empty"] for s in content["scores"]), default=0)
    titles = {name: f"{title} ({sizes[name]})" for name, title in PROTOCOLS.items()}
    if empty:
        titles["auto"] = (
            f"automatic, with an object ({sizes['auto'] - empty}) | left empty, of {empty} | "
            f"automatic, all ({sizes['auto']})"
        )
    heads = [*titles.values(), "HD95, px, tight box"]
    print(
        f"### {store}\n\n| | {' | '.join(heads)} |\n| --- |{' --- |' * ' | '.join(heads).count('|')} --- |"
    )
    for method in methods:
        cells = {protocol: _cell(scores.get((method, protocol))) for protocol in PROTOCOLS}
        if empty:
            cells["auto"] = f"{_apart(scores.get((method, 'auto')))} | {cells['auto']}"
        hd95 = scores.get((method, "box"), {}).get("hd95_px")
        last = "–" if hd95 is None else f"{hd95['mean']:.1f}"
        print(f"| {method} | {' | '.join(cells.values())} | {last} |")
    print()


def _apart(score: dict[str, Any] | None) -> str:
    """Dice where there is an object, and how often nothing was found where there is none."""
    if score is None or score["dice_lesions"] is None:
        return "– | –"
    return f"{_with_interval(score['dice_lesions'])} | {score['n_empty_right']:.3g}"


def _spread(content: dict[str, Any]) -> None:
    """Standard deviation of the mean from seed to seed, of what was trained."""
    found: dict[str, dict[str, float]] = {}
    for one in content.get("seed_spread", []):
        found.setdefault(one["method"], {})[one["protocol"]] = one["deviation"]
    if not found:
        return
    print("Standard deviation of that mean from seed to seed, in points of Dice:\n")
    print(f"| | {' | '.join(PROTOCOLS.values())} |\n| --- |{' --- |' * len(PROTOCOLS)}")
    for method, values in found.items():
        cells = [f"{100 * values[p]:.1f}" if p in values else "–" for p in PROTOCOLS]
        print(f"| {method} | {' | '.join(cells)} |")
    print()


def _cell(score: dict[str, Any] | None) -> str:
    if score is None or score["dice"] is None:
        return "–"
    return _with_interval(score["dice"])


def _with_interval(value: dict[str, float]) -> str:
    return f"{value['mean']:.3f} ({value['low']:.3f}–{value['high']:.3f})"


def _cost(part: dict[str, Any]) -> None:
    store, content = next(iter(part["stores"].items()))
    costs = content["costs"]
    print(f"### Cost: an image of {store} with one prompt, all timed in one go\n")
    print("| | weights, M | trained, M | GMACs | ms, median | p95 | memory, MB | file, MB |")
    print("| --- |" + " --- |" * 7)
    for method, c in costs.items():
        numbers = (
            (c["parameters"] / 1e6 if c["parameters"] else None, 2),
            (None if c["trained"] is None else c["trained"] / 1e6, 2),
            (None if c["macs"] is None else c["macs"] / 1e9, 1),
            (c["encode_ms"] + c["decode_ms"], 0),
            (c["p95_ms"], 0),
            (c["memory_mb"], 0),
            (c["file_mb"], 1),
        )
        print(
            f"| {method} | "
            + " | ".join("–" if v is None else f"{v:.{d}f}" for v, d in numbers)
            + " |"
        )
    print()


def _controls(out: Path) -> None:
    found = json.loads((out / "controls.json").read_text("utf-8"))
    leak, shuffled = found["leak"], found["shuffled"]
    outcome = "refused" if leak["refused"] else "NOT REFUSED"
    planted = "Training images, mirrored and recompressed, offered as validation"
    learned, chance = shuffled["dice_lesions"], shuffled["chance"]
    print("## Controls\n")
    said = leak["said"].replace(str(out), "OUT")
    print(f"- {planted}: **{outcome}** ({said}).")
    print(
        f"- A network that learned from the labels of other images, automatic: Dice {learned:.3f};"
    )
    more = shuffled["difference"]
    outcome = "at chance" if more["low"] <= 0 <= more["high"] else "NOT AT CHANCE"
    print(
        f"  the best mask that is the same for every image: {chance:.3f}; difference on "
        f"{shuffled['images']} images {more['mean']:+.3f} ({more['low']:+.3f} to {more['high']:+.3f}): "
        f"**{outcome}**.\n"
    )


if __name__ == "__main__":
    folder, size = sys.argv[1:]
    made = io.StringIO()
    with redirect_stdout(made):
        main(Path(folder), size)
    write_between(PAGE.with_name(PAGES[size]), made.getvalue().strip())
