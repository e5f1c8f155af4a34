"""Options and arguments of the command line, each with the help that a user reads."""

import re
from pathlib import Path
from typing import Annotated

import typer

from samling.errors import InputError

NAMES = "base, base-tiny, base-zoom, litemedsam, a checkpoint of the SAM family (see README)"

Data = Annotated[
    list[Path], typer.Option("--data", metavar="STORE.h5", help="Store made by prepare; several.")
]
Run = Annotated[
    Path, typer.Option("--out", "-o", metavar="RUN", help="Run folder; resumed if it exists.")
]
Rest = Annotated[
    list[str] | None,
    typer.Argument(metavar="STORE2.h5|KEY=VALUE", show_default=False),
]
Recipe = Annotated[
    str,
    typer.Argument(metavar="RECIPE", help="Name (`samling recipes` lists them), or a YAML file."),
]
Model = Annotated[
    str, typer.Argument(metavar="MODEL", help=f"Run folder, bundle, or one of: {NAMES}.")
]
Results = Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="Folder of the results.")]

# predict
Inputs = Annotated[
    list[Path],
    typer.Argument(
        metavar="INPUT",
        help="Images, DICOM files, folders of them; DICOM series (folder, zip), NIfTI, MHA, NRRD.",
    ),
]
Boxes = Annotated[
    list[str] | None,
    typer.Option("--box", metavar="x0,y0,x1,y1", help="One object per box; repeat. Pixels."),
]
Points = Annotated[
    list[str] | None,
    typer.Option(
        "--point", metavar="x,y[,1|0]", help="Repeat: all points are one object. 0: outside it."
    ),
]
PromptFile = Annotated[
    Path | None,
    typer.Option(
        "--prompts",
        metavar="FILE.json",
        help='{"<file name>": [{"box": [x0, y0, x1, y1], "points": [[x, y, 1]]}, ...]}',
    ),
]
Formats = Annotated[
    str, typer.Option("--format", help="Commas between: png, nifti, dicom-seg; else what fits.")
]
Window = Annotated[
    str | None,
    typer.Option(
        "--window",
        help="CT: abdomen, liver, liver-contrast, mediastinum, lung, bone, brain, or CENTRE,WIDTH in "
        "Hounsfield units. A CT needs one, unless the model brings its own.",
    ),
]
SeriesName = Annotated[
    str | None, typer.Option("--series", help="Number or UID, where a folder holds several.")
]
SliceNumber = Annotated[
    int | None,
    typer.Option(
        "--slice", help="Volume: the slice that --box is on, from 0 as the picture counts."
    ),
]
SliceSpan = Annotated[
    str | None,
    typer.Option("--slices", metavar="FIRST-LAST", help="Volume: only these slices, from 0."),
]
Others = Annotated[
    list[str] | None,
    typer.Option("--with", metavar="MODEL", help="Volume, automatic: average with it; repeat."),
]
Flips = Annotated[
    bool, typer.Option("--flips", help="Volume, automatic: average with mirrored slices.")
]
Auto = Annotated[bool, typer.Option("--auto", help="Find the objects without prompts.")]
Clean = Annotated[
    str,
    typer.Option(
        "--clean",
        help="Volume: largest (of the first class, with the classes inside it), holes, opening=MM, "
        "closing=MM, minimum=ML; commas between.",
    ),
]
OnRay = Annotated[
    bool, typer.Option("--ray", help="On the processors of a Ray cluster (RAY_ADDRESS).")
]
RuntimeName = Annotated[
    str | None,
    typer.Option(
        "--runtime", help="Bundles: onnxruntime or openvino; what it was exported for, if left out."
    ),
]
StoreFile = Annotated[
    Path, typer.Option("--data", metavar="STORE.h5", help="Store made by prepare.")
]
Split = Annotated[
    str, typer.Option("--split", metavar="val|test", help="Look at test once, at the end.")
]
Protocols = Annotated[
    str,
    typer.Option(
        "--prompts",
        help="Commas between: box, jitter5/10/20, point1/3/5, clicks3, boxclicks3 (a box, "
        "then clicks), noc90 (clicks until Dice 0.90), auto; or all. box~shadow2: on a damaged "
        "picture; damaged: every damage.",
    ),
]
Mean = Annotated[
    str, typer.Option("--mean", metavar="image|patient", help="What weighs the same in a mean.")
]
ClassName = Annotated[
    str, typer.Option("--class", metavar="NAME", help="Measure this class of several alone.")
]
EmptySlices = Annotated[
    int,
    typer.Option(
        "--empty", min=0, metavar="N",
        help="Of a volume's slices that show no class keep every N-th: where the organ is not.",
    ),
]  # fmt: skip
SplitBy = Annotated[
    str,
    typer.Option(
        "--split-by",
        metavar="group|slice|block",
        help="What stays on one side: patients; slice and block (of slices) leak, to show it.",
    ),
]


def numbers(text: str, option: str, counts: tuple[int, ...]) -> tuple[float, ...]:
    """Numbers between commas.

    Raises:
        InputError: not numbers, or not as many as `counts` allows.

    >>> numbers("1,2.5,3,4", "--box", (4,))
    (1.0, 2.5, 3.0, 4.0)
    """
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) not in counts:
        allowed = " or ".join(map(str, counts))
        problem = f"'{text}' is not {allowed} numbers with commas between"
        raise InputError(option, problem, "see samling predict --help")
    return values


def span(text: str | None) -> tuple[int, int] | None:
    """First and last slice with a dash between.

    Raises:
        InputError: not two whole numbers.

    >>> span("20-45"), span(None)
    ((20, 45), None)
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,6})-(\d{1,6})", text.strip())
    if match is None:
        raise InputError("--slices", f"'{text}' is not FIRST-LAST", "e.g. --slices 20-45")
    return int(match[1]), int(match[2])


def say(text: object) -> None:
    """Print a line at once, also into a pipe."""
    print(text, flush=True)


def split_rest(rest: list[str]) -> tuple[list[Path], list[str]]:
    """Divide what follows a command into further stores and KEY=VALUE overrides.

    >>> split_rest(["b.h5", "training.epochs=5", "runs/a=b.h5"])[1]
    ['training.epochs=5']
    """
    is_override = re.compile(r"[A-Za-z_][\w.-]*=").match
    return [Path(t) for t in rest if not is_override(t)], [t for t in rest if is_override(t)]
