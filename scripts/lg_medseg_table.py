"""The tables of docs/results/lg-medseg.md from what scripts/lg_medseg.sh left behind.

python scripts/lg_medseg_table.py OUT
"""

import json
import sys
from pathlib import Path
from typing import Any

from safetensors import safe_open

Scores = dict[tuple[str, str], dict[str, Any]]
PROTOCOLS = {
    "box": "tight box",
    "jitter10": "box ± 10 %",
    "point1": "one point",
    "auto": "automatic",
}
ROWS = {
    "litemedsam": "LiteMedSAM, as published",
    "base": "samling's base, no adapter",
    "k16": "+ LRAdapter k = 16, 15 epochs",
    "short-serial": "+ serial adapter, 3 epochs",
    "short-k4": "+ LRAdapter k = 4, 3 epochs",
    "short-k8": "+ LRAdapter k = 8, 3 epochs",
    "short-k16": "+ LRAdapter k = 16, 3 epochs",
    "short-k32": "+ LRAdapter k = 32, 3 epochs",
}
LOSSES = {"focal": "focal", "dice": "+ Dice", "iou": "+ mask IoU", "boundary": "+ boundary"}


def main(out: Path) -> None:
    """Print the tables; a run that is not there is a row that is not there."""
    found = {path.parent.name: scores_of(path) for path in sorted(out.glob("test/*/results.json"))}
    print("### Adapters (the paper's Tables 1 and 2)\n")
    print(f"| | trained | {' | '.join(PROTOCOLS.values())} |")
    print(f"| --- | --- |{' --- |' * len(PROTOCOLS)}")
    some = next(iter(found.values()))
    for name in ("fill the box", "ellipse in the box"):
        print(f"| {name} | – | {_cells(some, name, 'dice')} |")
    for key, title in ROWS.items():
        if key in found:
            print(f"| {title} | {_trained(out / key)} | {_cells(found[key], '', 'dice')} |")
    print("\n### Losses, one by one (Table 4): k = 16, 3 epochs, boxes alone, tight box\n")
    print("| loss | Dice | IoU | HD95 |\n| --- | --- | --- | --- |")
    for key, title in LOSSES.items():
        if key in found:
            row = found[key][("", "box")]
            print(f"| {title} | {' | '.join(cell(row[m]) for m in ('dice', 'iou', 'hd95_px'))} |")
    print(
        "\n### Cost of training\n\n| run | minutes | images/s | best epoch |\n| --- | --- | --- | --- |"
    )
    for key in dict.fromkeys((*ROWS, *LOSSES)):
        if (out / key / "metrics.jsonl").is_file():
            print(f"| {key} | {_cost(out / key / 'metrics.jsonl')} |")


def scores_of(path: Path) -> Scores:
    """(method, protocol) -> score; the model itself is method ""."""
    content = json.loads(path.read_text(encoding="utf-8"))
    own = content["method"]
    return {
        ("" if score["method"] == own else score["method"], score["protocol"]): score
        for score in content["scores"]
    }


def _cells(scores: Scores, method: str, measure: str) -> str:
    rows = [scores.get((method, protocol)) for protocol in PROTOCOLS]
    return " | ".join("–" if row is None else cell(row[measure]) for row in rows)


def cell(interval: dict[str, float] | None) -> str:
    """Mean and 95 % interval."""
    if interval is None:
        return "–"
    digits = 3 if interval["mean"] <= 1 else 1
    return f"{interval['mean']:.{digits}f} ({interval['low']:.{digits}f}–{interval['high']:.{digits}f})"


def _trained(run: Path) -> str:
    """Adapter weights, and all weights in the file."""
    path = run / "adapter.safetensors"
    if not path.is_file():
        return "–"
    with safe_open(path, framework="np") as stream:
        sizes = {key: stream.get_tensor(key).size for key in stream.keys()}  # noqa: SIM118
    adapter = sum(size for key, size in sizes.items() if key.startswith("adapter."))
    return f"{adapter:,} (file {path.stat().st_size / 1000:.0f} kB)"


def _cost(path: Path) -> str:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    best = max(rows, key=lambda row: row["val"]["score"])
    minutes = sum(row["seconds"] for row in rows) / 60
    speed = sum(row["images_per_second"] for row in rows) / len(rows)
    return f"{minutes:.0f} | {speed:.1f} | {best['epoch']} of {len(rows)}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
