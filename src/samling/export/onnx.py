"""Export to ONNX: encoder and decoder as two graphs with the names of SAM's own export."""

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from samling.errors import InputError
from samling.export.bundle import write_bundle
from samling.export.model_card import model_card
from samling.export.parity import Parity, compare
from samling.export.slim import slim
from samling.inference.bundle import Bundle
from samling.inference.card import Card
from samling.inference.onnx_backend import SKIPS, OnnxBackend
from samling.inference.segmenter import Segmenter
from samling.inference.torch_backend import TorchBackend
from samling.models.contract import Embedding, Promptable, PromptTokens

OPSET = 20  # the first that has GELU as one operator


class EncoderGraph(nn.Module):
    """`image` (1, 1 | 3, S, S) -> `image_embeddings` (1, C, h, w)[, `presence` logits][, skips]."""

    def __init__(self, model: Promptable, *, presence: bool) -> None:
        super().__init__()
        self.model, self.presence = model.module, presence
        self._encode = model.encode

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """One image."""
        embedding = self._encode(image)
        presence = (embedding.presence,) if embedding.presence is not None else ()
        return embedding.image, *(presence if self.presence else ()), *embedding.skips


class DecoderGraph(nn.Module):
    """Prompts of P objects -> `low_res_masks` (P, 1, 4h, 4w) and `iou_predictions` (P, 1).

    Unlike SAM's, the batch holds objects: P and the number of tokens N are free. Labels are floats
    as in SAM (-1 padding, 0, 1 points, 2, 3 corners), and 4 to 7 for the automatic prompt; where the
    card says that classes are told apart, 8 to 11 for that of the second class, and so on. A model
    with skip features takes them last, under the names that exports of SAM 2 use.
    """

    def __init__(self, model: Promptable) -> None:
        super().__init__()
        self.model = model.module
        self._decode = model.decode

    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        high_res_feats_0: Tensor | None = None,
        high_res_feats_1: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(1, C, h, w), (P, N, 2), (P, N), (P, 1, 4h, 4w), (P,), skips -> masks and quality."""
        skips = tuple(skip for skip in (high_res_feats_0, high_res_feats_1) if skip is not None)
        embedding = Embedding(image_embeddings, None, skips)
        coords, labels = point_coords.unsqueeze(0), point_labels.long().unsqueeze(0)
        masks, given = mask_input[:, 0].unsqueeze(0), has_mask_input.unsqueeze(0) > 0
        decoded = self._decode(embedding, PromptTokens(coords, labels, masks, given))
        return decoded.masks[0].unsqueeze(1), decoded.quality[0].unsqueeze(1)


def export_onnx(
    model: Promptable,
    card: Card,
    out: str | Path,
    *,
    images: Sequence[NDArray[np.generic]] | None = None,
) -> Parity:
    """Write a bundle that gives the model's masks without PyTorch, or nothing at all.

    Args:
        model: on the CPU; an adapter in place is exported with it.
        card: saved in the bundle.
        out: folder to make (an earlier bundle there is replaced), or a `.zip`.
        images: (H, W) each, to compare both forms on; if left out phantoms, and the real
            ultrasound frames that come with pydicom.

    Raises:
        InputError: the model has no prompts, `out` holds something else, the disk is full, or the
            exported masks are not those of the model.
    """
    bundle, parity = make_bundle(model, card, images)
    write_bundle(bundle, model_card(card, parity), out)
    return parity


def make_bundle(
    model: Promptable, card: Card, images: Sequence[NDArray[np.generic]] | None = None
) -> tuple[Bundle, Parity]:
    """The bundle in memory, and how far its masks are from the model's.

    Raises:
        InputError: the model has no prompts, or the exported masks are not those of the model.
    """
    if not card.prompts:
        raise InputError(card.name, "was not trained for any prompt", "adapt it first, then export")
    original = Segmenter(TorchBackend(model), card)
    automatic = "automatic" in card.prompts
    encoder = encoder_graph(model, presence=automatic, slices=card.slices)
    bundle = Bundle(slim(encoder), slim(_decoder(model, card)), card)
    parity = compare(original, Segmenter(OnnxBackend(bundle), card), images)
    parity.require(card.name)
    return bundle, parity


def encoder_graph(model: Promptable, *, presence: bool, slices: int = 1) -> bytes:
    """The encoder as ONNX, with the presence score if it is wanted and there is one."""
    side = model.input_size
    graph = EncoderGraph(model, presence=presence)
    image = torch.linspace(0, 1, slices * side * side).view(1, slices, side, side)
    with torch.inference_mode():
        embedding = model.encode(image)
    named = ["presence"] if presence and embedding.presence is not None else []
    outputs = ["image_embeddings", *named, *SKIPS[: len(embedding.skips)]]
    return _convert(graph, {"image": image}, {"image": None}, outputs)


def _decoder(model: Promptable, card: Card) -> bytes:
    side = card.embedding_size
    objects, tokens = torch.export.Dim("objects"), torch.export.Dim("tokens")
    with torch.inference_mode():
        embedding = model.encode(torch.zeros(1, 1, card.input_size, card.input_size))
    skips = dict(zip(SKIPS, embedding.skips, strict=False))
    # Two objects with three tokens: torch.export takes an example of 1 for a fixed size.
    inputs = {
        "image_embeddings": embedding.image.clone(),
        "point_coords": torch.rand(2, 3, 2) * card.input_size,
        "point_labels": torch.ones(2, 3),
        "mask_input": torch.zeros(2, 1, 4 * side, 4 * side),
        "has_mask_input": torch.zeros(2),
        **{name: skip.clone() for name, skip in skips.items()},
    }
    shapes = {
        "image_embeddings": None,
        "point_coords": {0: objects, 1: tokens},
        "point_labels": {0: objects, 1: tokens},
        "mask_input": {0: objects},
        "has_mask_input": {0: objects},
        **dict.fromkeys(skips),
    }
    graph = DecoderGraph(model)
    return _convert(graph, inputs, shapes, ["low_res_masks", "iou_predictions"])


def _convert(
    graph: nn.Module,
    inputs: dict[str, Tensor],
    shapes: dict[str, Any],
    outputs: list[str],
) -> bytes:
    with tempfile.TemporaryDirectory() as folder, _quiet(), torch.no_grad():
        path = Path(folder) / "graph.onnx"
        torch.onnx.export(
            graph.eval(),
            tuple(inputs.values()),
            path,
            dynamo=True,
            external_data=False,  # one file that can be read from memory
            dynamic_shapes=shapes,
            input_names=list(inputs),
            output_names=outputs,
            opset_version=OPSET,
            verbose=False,
        )
        return path.read_bytes()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns about every library that is not installed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
