"""export_int8: a bundle with its encoder in 8 bits, as much of it as validation images allow."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from samling.data.case import Case
from samling.data.intensity import slab_to_model
from samling.data.store import Store
from samling.errors import InputError
from samling.evaluation.metrics import dice
from samling.evaluation.protocols import ask, seen_by, truth
from samling.export import openvino_int8
from samling.export.int8 import quantiser
from samling.export.slim import slim
from samling.inference.bundle import Bundle
from samling.inference.card import Card
from samling.inference.onnx_backend import OnnxBackend, Runtime
from samling.inference.segmenter import PADDING, Segmenter
from samling.prompts.frame import Frame
from samling.recipes.evaluate import check_units
from samling.recipes.validation import PROTOCOLS

CALIBRATION_IMAGES, VALIDATION_IMAGES, PROBES = 48, 120, 4
LIMITS = (0.1, 0.03, 0.01, 0.003)
"""Layers that alone change the encoder's outputs by more stay in float; the next if Dice falls too far."""

IN_FLOAT = (0, 2, 8)
"""First convolutions that stay in float for OpenVINO: none, the stem of a TinyViT, all before the base's
first attention. The next if Dice falls too far."""

Report = Callable[[str], None]


def in_eight_bits(
    bundle: Bundle,
    stores: Sequence[Path],
    most_drop: float,
    report: Report,
    runtime: Runtime = "onnxruntime",
) -> tuple[Bundle, str]:
    """The bundle with 8-bit layers and half-precision weights, and a sentence on what that costs.

    Raises:
        InputError: a store is unusable, there is nothing to calibrate or to measure with, every form
            costs more than `most_drop` points of Dice, or a library is missing.
    """
    opened = [_opened(path, bundle.card) for path in stores]
    squares = _squares(opened, bundle.card)
    cases = _validation(opened)
    before = _scores(bundle, cases)
    if not before:
        raise _nothing("whose validation images show an object")
    forms = _for_onnxruntime if runtime == "onnxruntime" else _for_openvino
    for made, layers in forms(bundle, squares, report):
        after = _scores(made, cases)
        cost = _in_words(layers, len(cases), before, after)
        report(cost)
        if max(100 * (before[kind] - after[kind]) for kind in before) <= most_drop:
            return made, cost
    problem = f"in 8 bits costs more than {most_drop:g} points of Dice ({cost})"
    remedy = "export --format onnx, or allow more with --most-drop"
    raise InputError(bundle.card.name, problem, remedy)


def _opened(path: Path, card: Card) -> Store:
    store = Store.open(path)
    store.neighbours = card.slices == 3
    check_units(card, store, [*store.splits.train.ids, *store.splits.val.ids], card.name)
    return store


def _nothing(wanted: str) -> InputError:
    return InputError("--data", f"has no store {wanted}", "prepare one, or use --format onnx")


def _for_onnxruntime(
    bundle: Bundle, squares: NDArray[np.float32], report: Report
) -> Iterator[tuple[Bundle, str]]:
    """Forms with fewer and fewer layers in 8 bits, and in words which."""
    with quantiser(bundle.encoder, squares) as maker:
        report(f"measuring {len(maker.layers)} layers, one by one in 8 bits")
        errors = maker.sensitivity(squares[:: max(1, len(squares) // PROBES)][:PROBES])
        for limit in LIMITS:
            layers = [name for name in maker.layers if errors[name] <= limit]
            encoder = slim(maker.quantise(layers), half=True)
            words = f"{len(layers)} of {len(maker.layers)} layers of the encoder in 8 bits"
            yield _with(bundle, encoder), words


def _for_openvino(
    bundle: Bundle, squares: NDArray[np.float32], report: Report
) -> Iterator[tuple[Bundle, str]]:
    """The whole encoder, then with more of its first convolutions in floats, and in words how many."""
    report(f"setting the ranges of 8 bits on {len(squares)} images")
    first = openvino_int8.convolutions(bundle.encoder)
    for count in sorted({min(count, len(first)) for count in IN_FLOAT}):
        made = _with(bundle, *openvino_int8.quantise(bundle.encoder, squares, first[:count]))
        kept = f" but for its first {count} convolutions" if count else ""
        yield made, f"the encoder in 8 bits{kept}"


def _with(bundle: Bundle, encoder: bytes, weights: bytes = b"") -> Bundle:
    # How far quality can be trusted was measured on the model in floats
    card = bundle.card.model_copy(update={"precision": "int8", "calibration": None})
    return Bundle(encoder, slim(bundle.decoder, half=True), card, weights)


def _in_words(layers: str, images: int, before: dict[str, float], after: dict[str, float]) -> str:
    changes = ", ".join(f"{kind} {100 * (after[kind] - before[kind]):+.2f}" for kind in before)
    return f"{layers}, the rest in 16; points of Dice on {images} validation images: {changes}"


def _scores(bundle: Bundle, cases: Sequence[Case]) -> dict[str, float]:
    """Mean Dice per kind of prompt; the same prompts in every call."""
    segmenter = Segmenter(OnnxBackend(bundle), bundle.card)
    kinds = [PROTOCOLS[kind] for kind in bundle.card.prompts if kind in PROTOCOLS]
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for case in cases:
        encoded = segmenter.encode(seen_by(segmenter, case))
        for kind in kinds:
            answer = ask(segmenter, encoded, case, kind, seed=0)
            if answer is not None:
                found[kind].append(dice(truth(case), answer.mask))
    return {kind: float(np.mean(values)) for kind, values in found.items() if values}


def _squares(stores: Sequence[Store], card: Card) -> NDArray[np.float32]:
    """(N, S, S) or (N, 3, S, S) training images of all stores as the model sees them, evenly drawn."""
    squares = []
    for store in stores:
        for id in _evenly(store.splits.train.ids, CALIBRATION_IMAGES // len(stores)):
            case = store.case(id)
            seen = case.slab if card.slices == 3 else case.image
            height, width = case.image.shape
            frame = Frame(height, width, card.input_size, card.fit)
            padding = PADDING[card.padding]
            squares.append(slab_to_model(seen, frame, card.intensity_steps, padding))
    if not squares:
        raise _nothing("with training images")
    return np.stack(squares)


def _validation(stores: Sequence[Store]) -> list[Case]:
    """Labelled validation images of all stores, evenly drawn."""
    share = VALIDATION_IMAGES // len(stores)
    cases = [
        store.case(id)
        for store in stores
        for id in _evenly([id for id in store.splits.val.ids if store.meta(id).labelled], share)
    ]
    if not cases:
        raise _nothing("with labelled validation images")
    return cases


def _evenly(ids: Sequence[str], count: int) -> Sequence[str]:
    return ids[:: max(1, -(-len(ids) // max(1, count)))]
