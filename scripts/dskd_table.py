"""The tables of docs/results/dskd.md from what scripts/dskd.sh left behind, written into the page.

python scripts/dskd_table.py OUT TEACHER [PAGE]
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from uniultra_table import PAGE, PROMPTS, by_set, mean_of, metrics_of, scores_of, write_between

from samling.recipes.build import load_torch

METHODS = {
    "ellipse in the box": "ellipse in the box",
    "teacher": "teacher",
    "outputs": "student, outputs of the levels (as released)",
    "parts": "student, blocks and adapters apart (as drawn)",
    "none": "student without a teacher",
}


def tables(out: Path, teacher: Path) -> Iterator[str]:
    """All tables, line by line."""
    scores = dict(scores_of(out))
    yield f"| | {' | '.join(PROMPTS.values())} | encoder, weights | whole model | against the teacher |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    models = {"teacher": teacher} | {form: out / form for form in ("outputs", "parts", "none")}
    whole = 0
    for method, title in METHODS.items():
        means = " | ".join(mean_of(scores, method, protocol) for protocol in PROMPTS)
        path = models.get(method)
        if path is None or not any((path / f).is_file() for f in ("base.json", "adapter.json")):
            yield f"| {title} | {means} | – | – | – |"
            continue
        model, _ = load_torch(path)
        encoder = sum(p.numel() for p in model.image_encoder.parameters())
        count = sum(p.numel() for p in model.parameters())
        whole = whole or count
        yield f"| {title} | {means} | {encoder:,} | {count:,} | {count / whole - 1:+.1%} |"
    yield "\nMeans over the five organs. Organ by organ:\n"
    for protocol, words in PROMPTS.items():
        yield f"### {words}\n"
        yield from by_set(scores, protocol, METHODS)
    yield "### What was run\n"
    yield from _runs(out)


def _runs(out: Path) -> Iterator[str]:
    yield "| student | stage 1, minutes | cosine to the teacher | stage 2, minutes | best epoch |"
    yield "| --- | --- | --- | --- | --- |"
    for form in ("outputs", "parts", "none"):
        first, second = (metrics_of(out / form / stage) for stage in ("embedding", "decoder"))
        if not second:
            continue
        minutes = [sum(row["seconds"] for row in rows) / 60 for rows in (first, second)]
        cosine = f"{max(row['val']['score'] for row in first):.3f}" if first else "–"
        best = max(second, key=lambda row: row["val"]["score"])
        last = f"{minutes[1]:.1f} | {best['epoch']} of {len(second)}"
        yield f"| {form} | {minutes[0]:.1f} | {cosine} | {last} |"


if __name__ == "__main__":
    folder, master = Path(sys.argv[1]), Path(sys.argv[2])
    page = Path(sys.argv[3]) if len(sys.argv) > 3 else PAGE.with_name("dskd.md")
    write_between(page, "\n".join(tables(folder, master)))
