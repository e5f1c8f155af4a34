"""The command line: parse, call a recipe, print. Heavy imports live inside the commands."""

import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from samling import cli_baselines as baselines
from samling import cli_cart as cart
from samling.errors import InputError, explain_machine
from samling.options import (
    NAMES,
    ClassName,
    Data,
    EmptySlices,
    Mean,
    Model,
    OnRay,
    Protocols,
    Recipe,
    Rest,
    Results,
    Run,
    Split,
    SplitBy,
    StoreFile,
    say,
    split_rest,
)

DONE, SOME_FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    name="samling",
    help=(
        "Adapt a foundation segmenter to an organ and a modality, measure it, put it to work.\n\n"
        "The usual order: doctor, prepare, adapt, evaluate, compare, export, predict. `samling demo` runs "
        "them all on made-up ultrasound; `samling VERB --help` explains one.\n\n"
        f"MODEL is a run folder, a bundle (folder or zip), or one of: {NAMES}.\n\n"
        "Exit codes: 0 done, 1 some inputs failed (listed; the others are done), 2 wrong use or "
        "unusable input."
    ),
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        import samling

        say(f"samling {samling.__version__}")
        raise typer.Exit


@app.callback()
def _start(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the verb."""


@app.command()
def doctor(
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="DATA|STORE.h5...", help="Check this data, or these stores for leaks."
        ),
    ] = None,
) -> None:
    """Say what this machine can do.

    Versions, weights found, expected seconds per image. With DATA, the checks of `prepare` run on
    every image instead of timing, and nothing is written; the exit code is 1 if files cannot be used.
    With stores, every picture that is in two of them, or in two parts of one, is named: also
    mirrored, turned by 90°, cropped by up to 5 % or recompressed.

    Example: samling doctor my_images/

    Example: samling doctor busi.h5 mine.h5
    """
    from samling.recipes.doctor import examine

    found = examine(data or [])
    say(found)
    if found.errors:
        raise typer.Exit(SOME_FAILED)


@app.command()
def prepare(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder (or file) of the data set.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="STORE.h5", help="Store to write.")],
    layout: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="LAYOUT",
            help="busi, ddti, tn3k, tg3k, usefd, hc18, folder, nnunet (also MSD), coco, 3dircadb, "
            "lits or chaos; else recognised. unlabelled: images alone, for distill.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the data set; else the folder's.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the split, where none is committed.")] = 0,
    split_by: SplitBy = "group",
    empty: EmptySlices = 0,
) -> None:
    """Check a data set and write it as one store.

    The store holds images, labels and splits by patient or group. Every image is read; what cannot
    be used is listed with the reason and the remedy, and the rest is stored. A plain folder has
    images/, masks/ with the same file names, and optionally meta.csv with the columns id, group_id,
    class.

    Example: samling prepare my_images/ -o my.h5
    """
    from samling.recipes.prepare import prepare as recipe

    report = recipe(data, out, layout, name=name, seed=seed, by=split_by, empty=empty)
    say(report.text())
    if any(problem.severity == "error" for problem in report.problems):
        raise typer.Exit(SOME_FAILED)


@app.command()
def recipes(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME|FILE.yaml", help="Print this one.")
    ] = None,
) -> None:
    """List the recipes, or print one with all its settings.

    A recipe is what adapt, distill and train do: a YAML file. A printed one can be saved, changed
    and named by its path; below it, as comments, are the settings it leaves as they are. One setting
    alone is changed on the command line of those verbs, by KEY=VALUE.

    Example: samling recipes

    Example: samling recipes lg-medseg > mine.yaml
    """
    from samling.recipes.catalogue import listing, show

    say(listing() if name is None else show(name))


@app.command()
def adapt(
    recipe: Recipe,
    data: Data,
    out: Run,
    rest: Rest = None,
    base: Annotated[
        str,
        typer.Option(
            "--base",
            metavar="NAME|PATH",
            help=f"Frozen model to adapt: a folder by distill, {NAMES}.",
        ),
    ] = "base",
) -> None:
    """Teach a frozen base your organ.

    Only an adapter is trained: with lg-medseg about 70,000 weights, less than a hundredth of the
    model; `samling recipes` lists what else there is. Validates after every epoch and keeps the
    best. Stop it at any moment and run the same command again: it goes on where it was. KEY=VALUE
    changes one entry of the recipe.

    Example: samling adapt lg-medseg --data my.h5 --out runs/a training.epochs=5
    """
    from samling.recipes.adapt import adapt as run

    stores, overrides = split_rest(rest or [])
    say(run(recipe, [*data, *stores], out, base, overrides, report=say))


@app.command()
def distill(
    recipe: Recipe,
    data: Data,
    out: Run,
    teacher: Annotated[
        str,
        typer.Option(
            "--teacher", metavar="NAME|PATH", help=f"Model to learn from: a run, {NAMES}."
        ),
    ],
    rest: Rest = None,
    ray: OnRay = False,
) -> None:
    """Train the light base to see what a large teacher sees.

    The teacher's embeddings are computed once and cached; then the student is regressed on them and
    its decoder tuned with prompts. Resumes RUN if it exists. --ray computes the embeddings on many
    machines that see the same files, the cache among them (SAMLING_CACHE).

    Example: samling distill light --data my.h5 --teacher litemedsam --out runs/light
    """
    from samling.recipes.distill import distill as run

    stores, overrides = split_rest(rest or [])
    say(run(recipe, [*data, *stores], teacher, out, overrides, ray=ray, report=say))


@app.command()
def evaluate(
    model: Model,
    data: StoreFile,
    out: Results,
    split: Split = "val",
    prompts: Protocols = "box,jitter10,point1,auto",
    mean: Mean = "image",
    class_name: ClassName = "",
) -> None:
    """Measure a model on a split.

    Dice, IoU, HD95 and more per image and kind of prompt, beside baselines, with intervals over
    patients and paired tests. Writes results.json, results.csv (one row per image), table.md,
    overlay sheets of the best, median and worst images, and report.html. With several amounts of
    jitter it also draws how fast Dice falls. What each number means: docs/metrics.md.

    Example: samling evaluate runs/mine --data my.h5 --split val -o runs/mine/val
    """
    from samling.recipes.evaluate import Counting
    from samling.recipes.evaluate import evaluate as recipe

    kinds = [kind.strip() for kind in prompts.split(",") if kind.strip()]
    counting = Counting(mean, class_name)
    report = recipe(model, data, out, split, kinds, counting=counting, progress=say)
    say((out / "table.md").read_text(encoding="utf-8"))
    say(report)


@app.command()
def compare(
    plan: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="The plan; see below.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="OUT", help="Folder; resumed if it exists.")
    ],
    ray: OnRay = False,
) -> None:
    """Measure many methods on many data sets.

    Methods x stores x prompts x seeds, with intervals and paired tests over patients. What is done
    is kept: stop it at any moment and run it again. What fails is listed, the rest goes on. Writes
    tables (Markdown, LaTeX, CSV), box plots, overlays of every method, accuracy against cost, and
    report.html, one file to send to a colleague.

    A plan, at its shortest: {name: breast, stores: {busi: busi.h5}, methods: {mine: runs/busi,
    base: base}}. docs/compare.md has the other settings: baselines, prompts, seeds, split, mean,
    reference, published figures.

    Example: samling compare plan.yaml -o out/breast
    """
    from samling.recipes.compare import compare as recipe

    summary = recipe(plan, out, ray=ray, say=say)
    say(summary)
    if summary.failures:
        raise typer.Exit(SOME_FAILED)


app.command()(baselines.train)
app.command()(baselines.crossval)
app.command()(baselines.calibrate)
app.command()(baselines.reproduce)


@app.command()
def export(
    model: Model,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="BUNDLE", help="Folder to write, or a .zip.")
    ],
    format: Annotated[
        str, typer.Option("--format", help="onnx, onnx-int8 or openvino-int8.")
    ] = "onnx",
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="STORE.h5", help="8 bits: stores to calibrate on."),
    ] = None,
    most_drop: Annotated[
        float, typer.Option("--most-drop", help="8 bits: points of Dice it may cost.")
    ] = 0.5,
) -> None:
    """Write a model as a bundle that runs without PyTorch.

    ONNX files, their card as JSON and a model card for people. The exported graphs are run and
    compared with the model before the bundle is kept.

    8 bits make the encoder smaller and faster: onnx-int8 on ONNX Runtime, openvino-int8 on OpenVINO,
    fastest of all (extra quantise). Training images of the stores set the ranges; what it costs in Dice on
    validation images is printed and written into the model card; more than --most-drop is refused.

    Example: samling export runs/mine -o mine.bundle

    Example: samling export base -o small.bundle --format onnx-int8 --data busi.h5 --data hc18.h5
    """
    from samling.recipes.export import export as recipe

    say(recipe(model, out, format, data or [], most_drop, report=say))


app.command()(cart.predict)


@app.command()
def fetch(
    name: Annotated[
        str, typer.Argument(metavar="NAME|PATH", help="litemedsam, or a file you already have.")
    ],
) -> None:
    """Bring published weights into the cache and verify their hash.

    Example: samling fetch litemedsam
    """
    from samling.recipes.fetch import fetch as recipe

    say(recipe(name))


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="OUT", help="Folder of the demonstration.")
    ] = Path("runs/demo"),
) -> None:
    """Run the whole job on made-up ultrasound.

    Prepare, adapt, evaluate, export, predict: under ten minutes on two cores, without any data of
    yours. Ends with OUT/report.html. Steps already done are skipped.

    Example: samling demo
    """
    from samling.recipes.demo import demo as recipe

    recipe(out, report=say)


app.command()(cart.archive)
app.command()(cart.cine)


def explain(error: Exception) -> str | None:
    """One line for an error that the user can mend; None for a fault of ours."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, typer.TyperException):
        return f"{error.format_message()} Remedy: see samling --help, samling VERB --help."
    return explain_machine(error)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit. What a user can mend is one line, never a traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if threading.current_thread() is threading.main_thread():  # a cluster's "stop" is a person's
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app(arguments or ["--help"], prog_name="samling", standalone_mode=False)
    except Exception as error:
        text = explain(error)
        if text is None:
            raise
        print(f"error: {' '.join(text.split())}", file=sys.stderr)
        sys.exit(UNUSABLE)
    if code == INTERRUPTED:
        print("stopped; run the same command again to resume", file=sys.stderr)
    sys.exit(code or DONE)


if __name__ == "__main__":
    main()
