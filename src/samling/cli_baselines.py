"""Verbs of comparing with others: baselines that are trained, calibration, papers' tables."""

from pathlib import Path
from typing import Annotated

import typer

from samling.errors import InputError
from samling.options import Data, Recipe, Rest, Run, StoreFile, say, split_rest


def train(recipe: Recipe, data: Data, out: Run, rest: Rest = None) -> None:
    """Train a network from scratch, as a baseline.

    unet, unet++, segnet, deeplabv3+, fc-densenet, dilated-tree, nnunet: on the same store, splits and
    augmentation as `adapt`, for boxes (a second input channel) and without prompts. The run is a model
    like any other, for `evaluate`, `compare`, `export`, `predict`. Resumes RUN if it exists.

    Example: samling train unet --data my.h5 --out runs/unet training.epochs=5
    """
    from samling.recipes.train import train as run

    stores, overrides = split_rest(rest or [])
    say(run(recipe, [*data, *stores], out, overrides, report=say))


def crossval(
    recipes: Annotated[
        list[str],
        typer.Argument(metavar="RECIPE... [KEY=VALUE...]", help="For adapt or train; one or more."),
    ],
    data: StoreFile,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="OUT", help="Folder; resumed if it exists.")
    ],
    folds: Annotated[int, typer.Option("--folds", min=3, help="How many parts.")] = 5,
    base: Annotated[
        str, typer.Option("--base", metavar="NAME|PATH", help="What adapters are made for.")
    ] = "base",
) -> None:
    """Cross-validate: measure every image, by models that have not seen it.

    For few images: training and validation images are dealt into folds, by patient and look-alikes; each is
    measured once, by models that the other folds trained and chose. Test images stay out. All recipes see
    the same folds and are compared image by image, also with the base of adapters as it is and with boxes
    filled; report.html has it all. Stop it at any moment and run it again.

    The second of five folds alone is called my.h5@2of5, wherever a store is named.

    Example: samling crossval lg-medseg unet --data my.h5 --folds 5 -o out/cv training.epochs=5
    """
    from samling.recipes.crossval import crossval as recipe

    names, overrides = split_rest(recipes)
    summary = recipe([str(name) for name in names], data, out, folds, base, overrides, report=say)
    say((out / "tables.md").read_text(encoding="utf-8"))
    say(summary)
    if summary.failures:
        raise typer.Exit(1)


def calibrate(
    model: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run or bundle.")],
    data: Data,
    level: Annotated[
        float, typer.Option("--level", min=0.5, max=0.99, help="Share that intervals shall hold.")
    ] = 0.9,
) -> None:
    """Find out how far a model's own quality can be trusted.

    From the validation images: expected Dice for every quality, a conformal interval around it, a
    temperature for probabilities, and where nothing was found how often that is right. Whether they
    hold is checked by fitting to either half of the groups and counting on the other. What holds goes
    into the model's card; from then on `predict` prints for images expected Dice with its interval and
    says what to look at; volumes have none. Of several stores all objects are pooled.
    RUN/calibration/calibration.md has the figures.

    Example: samling calibrate runs/mine --data my.h5
    """
    from samling.recipes.calibrate import calibrate as recipe

    say(recipe(model, data, level=level, say=say))


def reproduce(
    paper: Annotated[str, typer.Argument(help="lg-medseg, sam-liver or uniultra.")] = "",
    table: Annotated[str, typer.Argument(help="e.g. table-3; left out: lists them.")] = "",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="OUT", help="Folder; resumed if it exists."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="NAME=STORE.h5", help="A data set by the paper's name."),
    ] = None,
    rest: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", show_default=False)
    ] = None,
) -> None:
    """Rerun a table of a paper, with its figures beside ours.

    Rows whose data are given are trained and measured by `compare`, on validation images; the others
    keep the paper's figure and say why. KEY=VALUE changes every training. Writes OUT/reproduced.md.
    Without a table it lists what there is.

    Example: samling reproduce lg-medseg table-3 --data BUSI=busi.h5 -o out/table-3
    """
    from samling.recipes.papers import listing
    from samling.recipes.reproduce import reproduce as recipe

    if not table:
        say(listing(paper))
        return
    if out is None:
        raise InputError("--out", "is missing", "name a folder for the page and the runs")
    pairs = [text.partition("=") for text in data or []]
    if wrong := [name for name, equals, path in pairs if not (equals and path)]:
        raise InputError("--data", f"'{wrong[0]}' is not NAME=STORE.h5", "e.g. BUSI=busi.h5")
    stores = {name: Path(path) for name, _, path in pairs}
    say(recipe(paper, table, stores, out, rest or [], say=say))
