"""Verbs for where images are made and where they are kept: archives and cine loops."""

from typing import Annotated

import typer

from samling.options import (
    Boxes,
    Inputs,
    Model,
    Points,
    PromptFile,
    Results,
    RuntimeName,
    Window,
    numbers,
)

SOME_FAILED = 1


def archive(
    model: Model,
    inputs: Inputs,
    out: Results,
    box: Boxes = None,
    point: Points = None,
    prompts: PromptFile = None,
    auto: Annotated[bool, typer.Option("--auto", help="Find the objects without prompts.")] = False,
    window: Window = None,
    runtime: RuntimeName = None,
    ray: Annotated[
        bool, typer.Option("--ray", help="On the processors of a Ray cluster (RAY_ADDRESS).")
    ] = False,
) -> None:
    """Segment very many images, as predict does.

    Folders are read with the folders in them, several images are under way at a time, and memory
    does not grow. Stop it at any moment and run the same command again: it goes on where it was, and
    every result is there once. manifest.csv says what became of every image; what cannot be used is
    set aside with its reason. --ray works on many machines that see the same files.

    Example: samling archive base.bundle scans/ -o found
    """
    from samling.recipes.predict_archive import Job, predict_archive

    job = Job(
        model=model,
        out=str(out),
        boxes=tuple(numbers(text, "--box", (4,)) for text in box or []),
        points=tuple(numbers(text, "--point", (2, 3)) for text in point or []),
        prompts_file=None if prompts is None else str(prompts),
        auto=auto,
        window=window,
        runtime=runtime,
    )
    summary = predict_archive(job, inputs, ray=ray)
    typer.echo(summary)
    if summary.failed:
        raise typer.Exit(SOME_FAILED)
