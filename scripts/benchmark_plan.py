"""Write the plans that scripts/benchmark.sh compares: benchmark_plan.py OUT quick|full."""

import sys
from pathlib import Path
from typing import Any

import yaml

NETWORKS = {
    "U-Net": "unet",
    "nnU-Net-like": "nnunet",
    "DeepLabv3+": "deeplabv3+",
    "U-Net++": "unet++",
    "SegNet": "segnet",
    "dilated tree": "dilated-tree",
    "FC-DenseNet": "fc-densenet",
}
SETS = ("BUSI", "DDTI", "HC18", "nerve", "ovary", "liver")
RULES = ["fill the box", "ellipse in the box", "Otsu in the box", "GrabCut in the box",
         "region growing", "active contour"]  # fmt: skip


def main(out: Path, size: str) -> None:
    """One plan for quick; for the full grid BUSI alone, with three seeds, and the rest."""
    if size == "quick":
        _write(out, "quick", SETS, (0,), "{}")
        return
    _write(out, "full-BUSI", SETS[:1], (0, 1, 2), "full-{}-{store}-{seed}")
    _write(out, "full", SETS[1:], (0,), "full-{}-{store}-{seed}")


def _write(out: Path, name: str, sets: tuple[str, ...], seeds: tuple[int, ...], run: str) -> None:
    methods = {"base + LRAdapter": "runs/" + run.replace("{}", "adapter"), "base": "base"}
    methods |= {title: "runs/" + run.replace("{}", kind) for title, kind in NETWORKS.items()}
    plan: dict[str, Any] = {
        "name": f"Benchmark, {name}, validation images",
        "stores": {set_: f"{set_}.h5" for set_ in sets},
        "methods": methods,
        "baselines": RULES,
        "prompts": ["box", "jitter10", "point1", "auto"],
        "seeds": list(seeds),
        "reference": "base + LRAdapter",
    }
    text = yaml.safe_dump(plan, sort_keys=False)
    (out / f"{name}.yaml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
