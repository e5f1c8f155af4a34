"""Verbs that put a model to work: on images and volumes, on archives, on cine loops."""

from typing import Annotated

import typer

from samling.options import (
    Auto,
    Boxes,
    Clean,
    Flips,
    Formats,
    Inputs,
    Model,
    OnRay,
    Others,
    Points,
    PromptFile,
    Results,
    RuntimeName,
    SeriesName,
    SliceNumber,
    SliceSpan,
    Window,
    numbers,
    say,
    span,
)

SOME_FAILED = 1


def predict(
    model: Model,
    inputs: Inputs,
    out: Results,
    box: Boxes = None,
    point: Points = None,
    prompts: PromptFile = None,
    auto: Auto = False,
    format: Formats = "",
    window: Window = None,
    series: SeriesName = None,
    slice_: SliceNumber = None,
    slices: SliceSpan = None,
    clean: Clean = "",
    with_: Others = None,
    flips: Flips = False,
    runtime: RuntimeName = None,
) -> None:
    """Segment images and volumes and measure what was found.

    One mask and one overlay for each image, and results.csv with a row per object, or with one row
    that asks for a look where none was found. Without --box, --point or --prompts the model looks for
    objects itself. Pixels are the original image's, x to
    the right, y down; x1 and y1 are exclusive.

    A folder of DICOM slices, a zip of them or a volume file is segmented slice by slice; a box on
    one slice is carried to its neighbours until the object ends. Written are NIfTI and DICOM SEG on
    the source's own grid, a picture of several slices, and volumes.csv: millilitres, number of
    lesions, diameters, share of the whole. Several models (--with) and mirrored slices (--flips) are
    averaged; a NIfTI beside the result shows where they are unsure, in percent. With --format
    dicom-seg ultrasound gets a DICOM SEG too.

    Example: samling predict runs/mine scan.png -o out --box 120,80,260,190

    Example: samling predict base ct_series/ -o out --window abdomen --box 90,120,300,340 --slice 60
    """
    from samling.inference.clean_volume import CleanUp
    from samling.recipes.predict import PredictOptions
    from samling.recipes.predict import predict as recipe
    from samling.recipes.predict_volume import VolumeOptions

    boxes = [numbers(text, "--box", (4,)) for text in box or []]
    points = [numbers(text, "--point", (2, 3)) for text in point or []]
    formats = tuple(dict.fromkeys(part.strip() for part in format.split(",") if part.strip()))
    volume = VolumeOptions(formats, series, slice_, span(slices), CleanUp.parse(clean), flips=flips)
    options = PredictOptions(window, volume, tuple(with_ or ()), runtime)
    summary = recipe(model, inputs, out, boxes, points, prompts, auto, options)
    say(summary)
    if summary.failed:
        raise typer.Exit(SOME_FAILED)


def archive(
    model: Model,
    inputs: Inputs,
    out: Results,
    box: Boxes = None,
    point: Points = None,
    prompts: PromptFile = None,
    auto: Auto = False,
    window: Window = None,
    runtime: RuntimeName = None,
    ray: OnRay = False,
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
    say(summary)
    if summary.failed:
        raise typer.Exit(SOME_FAILED)


def cine(
    model: Model,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="DICOM loop, MP4 or AVI, folder of frames, or camera:0."
        ),
    ],
    out: Results,
    box: Annotated[
        str | None, typer.Option("--box", metavar="x0,y0,x1,y1", help="On the first frame. Pixels.")
    ] = None,
    point: Points = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="SOURCE is a folder that a scanner writes into.")
    ] = False,
    idle: Annotated[
        float, typer.Option("--idle", help="--watch: ends after so many seconds without an image.")
    ] = 60.0,
    seg: Annotated[bool, typer.Option("--seg", help="Also a DICOM SEG; for DICOM loops.")] = False,
    runtime: RuntimeName = None,
) -> None:
    """Segment a cine loop or a camera live.

    Reading, encoding and decoding of masks overlap, and memory does not grow. With --box or --point
    one object is followed from frame to frame; without, the model looks for objects in every frame.
    Masks are smoothed over two frames. Written are annotated.mp4, frames.csv (area, box and score of
    every frame) and area.svg. Ctrl-C ends a camera; what was segmented is kept.

    Example: samling cine base.bundle loop.dcm -o out --box 120,80,260,190

    Example: samling cine base.bundle /incoming -o out --watch --idle 600
    """
    from samling.recipes.cine import CineOptions
    from samling.recipes.cine import cine as recipe

    corners = None if box is None else numbers(box, "--box", (4,))
    points = [numbers(text, "--point", (2, 3)) for text in point or []]
    options = CineOptions(watch, idle, seg, runtime)
    say(recipe(model, source, out, corners, points, options))
