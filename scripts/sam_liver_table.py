"""docs/results/sam-liver.md from what scripts/sam_liver.sh left behind, printed.

python scripts/sam_liver_table.py OUT val|test FOLDER_OF_THE_PATIENT
"""

import csv
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samling.data.readers.volume_file import read_volume_file
from samling.data.sources.dircadb import read
from samling.data.volume import Volume
from samling.evaluation.metrics import dice
from samling.evaluation.statistics import mean_ci

PROTOCOLS = {"auto": "automatic", "box": "tight box", "jitter10": "box ± 10 %"}
SETS = {"ct_msd_liver": "MSD", "ct_ircadb_slices": "3D-IRCADb-01"}
RUNS = {
    "base": "samling's base, not adapted",
    "liver": "sam-liver",
    "no-fusion": "without fusion",
    "no-anatomy": "without the anatomy-sensitive extractor",
    "no-clahe": "without CLAHE",
    "encoder-adapted": "encoder adapted (LRAdapter k = 16)",
    "second": "sam-liver, another seed",
    "unet": "U-Net from scratch, as many epochs",
    "unet-long": "U-Net from scratch, four times as many, 128 px",
}
FEW = {"few-1": "1 patient", "few-5": "5 patients", "few-20": "20 patients"}
ONE = {
    "tumour-block": "by blocks of 8 slices",
    "tumour-25d": "by blocks, three slices as channels",
    "tumour-slice": "by slice, as in the thesis",
}
VOLUMES = {
    "box": "base, one box on slice 80",
    "box-clean": "the same, cleaned",
    "liver": "sam-liver, automatic",
    "liver-clean": "the same, cleaned",
    "liver-flips": "with mirrored slices",
    "liver-ensemble": "two seeds, mirrored slices",
    "liver-ensemble-clean": "the same, cleaned",
}
Rows = list[dict[str, str]]
PAGE = """# Liver and liver tumour on CT

One command makes this page, `scripts/sam_liver.sh FOLDER OUT` (resumable). Recipe: `sam-liver`, {epochs}
epochs, on the base that comes with samling. Dice, mean over {part} patients, 95 % bootstrap interval over
patients. Automatic: nobody points at anything.

What to know before trusting a number:

- The cases are few: {cases}. The intervals say it. A patient of both sets
  counts once where both are averaged.
- These slices are 8-bit pictures, so the recipe's window is off; CLAHE is on. Many of MSD's slices are
  called mirrored or flipped by their source.
- The base has seen training patients of both: MSD's set holds slices of 3D-IRCADb-01, windowed (14 of its
  40 training slices). It has seen none of those measured here, and no picture without a window.
- Two slices of patient 17 of 3D-IRCADb-01 are training slices: his whole scan is no test.
- Tumours are labelled for patient 17 alone, so training and validation slices are his. Blocks of slices
  leak less than single slices; both leak. Their difference is what a split by slice is worth.
"""


def main(out: Path, split: str, patient: Path) -> None:
    """Print the page; a run that is not there is a row that is not there."""
    part = "test" if split == "test" else "validation"
    print(PAGE.format(epochs=_epochs(out / "liver"), part=part, cases=_cases(out / split)))
    print("### Liver, by patient\n")
    _liver_table(out / split, RUNS)
    print("\n### Few-shot: patients of MSD to train on\n")
    _liver_table(out / split, FEW)
    draw_curve(out / split, out / "few-shot.png")
    print("\n### One patient, 3Dircadb1.17: a test of the pipeline, not of a method\n")
    print("| split | slices | liver | liver tumour |\n| --- | --- | --- | --- |")
    for name, title in ONE.items():
        store = "one-slice" if name == "tumour-slice" else "one-block"
        organ = _own(out / split / f"{name}--{store}")
        lesion = _own(out / split / f"{name}-tumour--{store}")
        if organ and lesion:
            cells = [_dice(rows, "auto") for rows in (organ, lesion)]
            count = len({row["id"] for row in organ})
            print(f"| {title} | {count} | {' | '.join(cells)} |")
    print("\n### The same patient as a whole, liver, 119 slices\n")
    print("| | Dice | ml (true: TRUE) |\n| --- | --- | --- |".replace("TRUE", _truth_ml(patient)))
    for name, title in VOLUMES.items():
        if (out / "volumes" / name / "volumes.csv").is_file():
            print(f"| {title} | {_volume_cells(out / 'volumes' / name, patient)} |")


def _liver_table(folder: Path, runs: dict[str, str]) -> None:
    """Mean Dice over patients, of each set and of both together."""
    heads = [
        f"{title}, {name}" for title in PROTOCOLS.values() for name in (*SETS.values(), "both")
    ]
    print(f"| | {' | '.join(heads)} |\n| --- |{' --- |' * len(heads)}")
    for run, title in runs.items():
        found = [_own(folder / f"{run}--{name}") for name in SETS]
        if not all(found):
            continue
        both = [row for rows in found for row in rows]
        cells = [_dice(rows, protocol) for protocol in PROTOCOLS for rows in (*found, both)]
        print(f"| {title} | {' | '.join(cells)} |")


def _epochs(run: Path) -> int:
    path = run / "metrics.jsonl"
    return len(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else 0


def _cases(folder: Path) -> str:
    """How many slices and patients of each set are measured."""
    words = []
    for name, title in SETS.items():
        rows = _own(folder / f"liver--{name}")
        ids, groups = ({row[key] for row in rows} for key in ("id", "group"))
        words.append(f"{len(ids)} slices of {len(groups)} patients of {title}")
    return ", ".join(words)


def _own(folder: Path) -> Rows:
    """Rows of the model itself, which come first; [] if it was not measured."""
    path = folder / "results.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if row["method"] == rows[0]["method"]]


def _values(rows: Rows, protocol: str) -> tuple[list[float], list[str]]:
    kept = [row for row in rows if row["protocol"] == protocol and row["dice"]]
    return [float(row["dice"]) for row in kept], [row["group"] for row in kept]


def _dice(rows: Rows, protocol: str) -> str:
    values, groups = _values(rows, protocol)
    if not values:
        return "–"
    found = mean_ci(values, groups, over="patient")
    return f"{found.mean:.3f} ({found.low:.3f}–{found.high:.3f})"


def draw_curve(folder: Path, path: Path) -> None:
    """Mean Dice over patients against the number of patients trained on."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.5), layout="constrained")
    for protocol, title in PROTOCOLS.items():
        points = []
        for run in FEW:
            rows = [row for name in SETS for row in _own(folder / f"{run}--{name}")]
            values, groups = _values(rows, protocol)
            if values:
                found = mean_ci(values, groups, over="patient")
                points.append((int(run.removeprefix("few-")), found.mean, found.low, found.high))
        if points:
            patients, mean, low, high = np.array(points).T
            axes.errorbar(
                patients, mean, (mean - low, high - mean), label=title, marker="o", capsize=3
            )
    axes.set(xlabel="patients to train on", ylabel="Dice, liver", xscale="log", xticks=(1, 5, 20))
    axes.set_xticklabels(("1", "5", "20"))
    if axes.has_data():
        axes.legend()
    figure.savefig(path, dpi=120)


def _scan(patient: Path) -> tuple[Volume, NDArray[np.uint8]]:
    return read(patient).volumes[0].load()


def _truth_ml(patient: Path) -> str:
    volume, labels = _scan(patient)
    return f"{np.count_nonzero(labels) * volume.voxel_ml:.0f}"


def _volume_cells(folder: Path, patient: Path) -> str:
    """Dice of the whole volume, tumours counted to the liver, and millilitres."""
    volume, labels = _scan(patient)
    [path] = [p for p in folder.glob("*.nii.gz") if not p.name.endswith("_uncertainty.nii.gz")]
    found = read_volume_file(path)
    marks = found.voxels > 0
    turned = np.diag(np.linalg.inv(found.affine) @ volume.affine)[:3]
    marks = np.flip(marks, [axis for axis in range(3) if turned[axis] < 0])
    millilitres = np.count_nonzero(marks) * found.voxel_ml
    return f"{dice(labels > 0, marks):.3f} | {millilitres:.0f}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
