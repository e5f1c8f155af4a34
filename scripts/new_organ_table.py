"""The tables of docs/results/new-organ.md, from what scripts/new_organ.sh left, written into the page.

python scripts/new_organ_table.py OUT
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from lg_medseg_table import cell
from safetensors import safe_open
from uniultra_table import PAGE, SETS, write_between

PROMPTS = {
    "box": "tight box",
    "jitter10": "box ± 10 %",
    "point1": "one point",
    "auto": "automatic",
}
ROWS = {
    "ellipse in the box": "ellipse in the box",
    "not adapted": "a base that never saw the organ",
    "decoder": "+ mask decoder alone",
    "lr": "+ LRAdapter",
    "serial": "+ serial adapter",
    "ch": "+ CH-Adapter and mask decoder",
    "lora": "+ LoRA",
    "full": "+ all weights tuned",
    "the shipped base": "the base that ships, which has seen it",
}


def tables(out: Path) -> Iterator[str]:
    """Set by set, line by line."""
    for path in sorted(out.glob("compare/*/comparison.json"), reverse=True):
        ((name, content),) = json.loads(path.read_text("utf-8"))["stores"].items()
        scores = {(s["method"], s["protocol"]): s for s in content["scores"]}
        images = max(s["n"] for s in content["scores"])
        yield f"### {SETS[name]}: {images} validation images\n"
        yield f"| | weights trained | {' | '.join(PROMPTS.values())} |"
        yield f"| --- | --- |{' --- |' * len(PROMPTS)}"
        for method, title in ROWS.items():
            found = [scores.get((method, protocol)) for protocol in PROMPTS]
            if any(found):
                cells = [cell(one["dice"]) if one and one["dice"] else "–" for one in found]
                yield f"| {title} | {_trained(out / method / name)} | {' | '.join(cells)} |"
        yield ""


def _trained(run: Path) -> str:
    path = run / "adapter.safetensors"
    if not path.is_file():
        return "–"
    with safe_open(path, framework="np") as stream:
        count = sum(stream.get_tensor(key).size for key in stream.keys())  # noqa: SIM118
    return f"{count:,}"


if __name__ == "__main__":
    write_between(PAGE.with_name("new-organ.md"), "\n".join(tables(Path(sys.argv[1]))).strip())
