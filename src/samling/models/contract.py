"""Promptable: what every segmenter offers to training, distillation, export and prediction."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn


class PromptTokens(NamedTuple):
    """Prompts of B images with P objects each, as tokens (see `samling.prompts.prompt.Token`)."""

    coords: Tensor
    """(B, P, N, 2) x, y in model pixel indices."""
    labels: Tensor
    """(B, P, N) int64 token kinds."""
    masks: Tensor | None = None
    """(B, P, 4h, 4w) earlier mask logits, or None."""
    mask_given: Tensor | None = None
    """(B, P) bool: which of `masks` count; None: all of them."""


class Embedding(NamedTuple):
    """What the image encoder hands to the mask decoder."""

    image: Tensor
    """(B, C, h, w)"""
    presence: Tensor | None
    """(B,) logit that the image holds any object, (B, K) one per class; None: no automatic mode."""
    skips: tuple[Tensor, ...] = ()
    """(B, C / 8, 4h, 4w) and (B, C / 4, 2h, 2w) for the decoder's upscaling, or nothing."""

    def rows(self, index: Tensor | list[int]) -> "Embedding":
        """Image and skips of some images of the batch, without presence."""
        return Embedding(self.image[index], None, tuple(skip[index] for skip in self.skips))


class MaskLogits(NamedTuple):
    """Decoder output for B images with P objects each."""

    masks: Tensor
    """(B, P, 4h, 4w) logits over the whole square."""
    quality: Tensor
    """(B, P) predicted IoU."""


@dataclass(frozen=True)
class Site:
    """A named place where an adapter may be injected."""

    path: str
    """Dotted module name inside the model."""
    width: int
    """Channels of the module's input and output."""
    stage: int
    """Stage of the encoder, from 0."""
    channels_first: bool = False
    """Whether the module maps (B, C, H, W) rather than (..., C)."""


Sites = dict[str, list[Site]]
"""Kind of site (`block`, `attention`, `mlp`) -> the places, in order of depth."""


@runtime_checkable
class Promptable(Protocol):
    """A segmenter. Gradients flow; whoever predicts adds `torch.inference_mode`."""

    input_size: int
    embedding_size: int

    @property
    def sites(self) -> Sites:
        """Where adapters may go."""
        ...

    @property
    def module(self) -> nn.Module:
        """The model itself, as a module with parameters."""
        ...

    def encode(self, images: Tensor) -> Embedding:
        """(B, 1, S, S) grey images in [0, 1] -> embedding."""
        ...

    def decode(self, embedding: Embedding, prompts: PromptTokens) -> MaskLogits:
        """Masks for every prompt."""
        ...
