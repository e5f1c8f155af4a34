"""The page at the end of the demonstration: what ran, what it found, what to do next."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from samling.evaluation.report import (
    Block,
    Command,
    Picture,
    Points,
    Section,
    Table,
    Text,
    write_report,
)
from samling.evaluation.tables import Score, automatic, headline

TITLES = {
    "draw": "Draw ultrasound phantoms with exact masks",
    "prepare": "Check them, split them by patient, write one store",
    "adapt": "Adapt the base",
    "evaluate": "Measure on validation patients",
    "export": "Write a bundle that needs no PyTorch",
    "predict": "Segment unseen pictures with the bundle",
}
NEXT = (
    "samling doctor my_images/                     # images/, masks/ and perhaps meta.csv",
    "samling prepare my_images/ -o my.h5           # one store, split by patient",
    "samling adapt lg-medseg --data my.h5 --out runs/my",
    "samling evaluate runs/my --data my.h5 --split val -o runs/my/val",
    "samling export runs/my -o my.bundle",
    "samling predict my.bundle scan.png -o out --box 120,80,260,190",
)


def write_demo_report(out: Path, seconds: dict[str, float]) -> Path:
    """Write `out`/report.html from what the steps left in `out`."""
    results = json.loads((out / "evaluation" / "results.json").read_text(encoding="utf-8"))
    scores = [Score.from_json(row) for row in results["scores"]]
    sections = [
        Section("How it went", [_steps(seconds), Text(START)]),
        Section("Training", _training(out / "run")),
        Section("Scores", _scores(scores, str(results["method"]))),
        Section("Truth and prediction", _sheets(out / "evaluation")),
        Section("Pictures of unseen patients, nothing pointed at", _found(out, "automatic")),
        Section("Real ultrasound, two boxes drawn by hand", [*_found(out, "box"), Text(REAL)]),
        Section("What to do next", [Text("With your own images:"), Command(NEXT), _cautions()]),
    ]
    footer = "Made by samling demo. Research software, not a medical device."
    lead = _lead(scores, str(results["method"]), sum(seconds.values()))
    return write_report(out / "report.html", "samling demo", lead, sections, footer=footer)


START = (
    "It started from the light base that comes with samling: a TinyViT encoder distilled from "
    "LiteMedSAM, tuned on seven sets of ultrasound and CT. Only an adapter was trained on the phantoms."
)
REAL = (
    "Two frames of a lymph node with power Doppler, which come with the pydicom package. The model "
    "was adapted to drawn phantoms alone: this shows that DICOM goes in and outlines come out, no more. "
    "Train on real images before judging a mask."
)


def _cautions() -> Points:
    return Points(
        (
            "The scores above are of drawn phantoms: they show that everything works, not how good "
            "it is on patients.",
            "Say in meta.csv which images belong to one patient, or the scores will flatter you.",
            "Choose everything on the validation split; look at the test split once, at the end.",
        )
    )


def _lead(scores: list[Score], method: str, seconds: float) -> str:
    box = [s for s in scores if s.method == method and s.protocol == "box" and s.dice]
    text = f"From nothing to a working segmenter in {seconds / 60:.1f} minutes on this machine."
    if box and box[0].dice:
        text += f" With a box around the lesion it reaches a Dice of {box[0].dice.mean:.3f} on "
        text += f"{box[0].n} validation phantoms."
    return text


def _steps(seconds: dict[str, float]) -> Table:
    rows = tuple((TITLES[name], f"{seconds[name]:.1f}") for name in TITLES if name in seconds)
    return Table(("Step", "Seconds"), (*rows, ("Together", f"{sum(seconds.values()):.1f}")))


def _training(run: Path) -> list[Block]:
    curves = run / "curves.png"
    alt = "Loss and validation Dice over the epochs"
    return [Picture(curves, alt, "Left: loss terms. Right: Dice for each kind of prompt.")] * (
        curves.is_file()
    )


def _scores(scores: list[Score], method: str) -> list[Block]:
    found = automatic(scores)
    text = "Means over validation images with 95 % intervals; the model's own rows stand out."
    return [Text(text), headline(scores, method), *([found] if found else [])]


def _sheets(folder: Path) -> list[Block]:
    names = {"all": "All", "best": "Best", "median": "In the middle", "worst": "Worst"}
    paths = [(folder / f"sheet_{name}.png", text) for name, text in names.items()]
    return [Picture(p, f"{text} validation images", text) for p, text in paths if p.is_file()]


def _found(out: Path, kind: str) -> list[Block]:
    """The overlays of one kind of prompt side by side, and in words what was found."""
    folder = out / "predictions" / kind
    rows = list(_rows(folder / "results.csv"))
    overlays = sorted(folder.glob("*_overlay.png"))
    names = [overlay.name.removesuffix("_overlay.png") for overlay in overlays]
    found = [row for row in rows if row["object"] != "0"]
    captions = [_caption(n, [row for row in found if Path(row["mask"]).stem == n]) for n in names]
    if not overlays:
        return []
    return [
        Picture(_gallery(overlays), f"{len(overlays)} pictures with outlines"),
        Points(tuple(captions)),
    ]


def _gallery(paths: Sequence[Path], columns: int = 3, width: int = 480) -> bytes:
    """Pictures in rows of `columns`, each `width` px wide, as one PNG."""
    pictures = [cv2.imread(str(path)) for path in paths]
    scaled = [
        cv2.resize(picture, (width, max(1, round(picture.shape[0] * width / picture.shape[1]))))
        for picture in pictures
        if picture is not None
    ]
    height = max(picture.shape[0] for picture in scaled)
    rows = -(-len(scaled) // columns)
    canvas = np.full((rows * height, min(columns, len(scaled)) * width, 3), 24, np.uint8)
    for number, picture in enumerate(scaled):
        top, left = number // columns * height, number % columns * width
        canvas[top : top + picture.shape[0], left : left + width] = picture
    return bytes(cv2.imencode(".png", canvas)[1])


def _caption(name: str, rows: list[dict[str, str]]) -> str:
    if not rows:
        return f"{name}: nothing found"
    sizes = [
        f"{float(row['longest_diameter_mm']):.1f} mm"
        if row["longest_diameter_mm"]
        else f"{float(row['longest_diameter_px']):.0f} px"
        for row in rows
    ]
    return f"{name}: {len(rows)} found, longest diameter {', '.join(sizes)}"


def _rows(path: Path) -> Iterator[dict[str, str]]:
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)
