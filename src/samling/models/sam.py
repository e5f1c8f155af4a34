"""Sam: image encoder, prompt encoder and mask decoder of the whole SAM family as one `Promptable`."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samling.models.anatomy import AnatomyExtractor
from samling.models.architectures import ARCHITECTURES
from samling.models.contract import Embedding, MaskLogits, PromptTokens, Sites
from samling.models.fusion import Fusion
from samling.models.prompt_encoder import PromptEncoder
from samling.models.tiny_vit import EMBEDDING_CHANNELS
from samling.prompts.prompt import Token

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PresenceHead(nn.Module):
    """Is there anything to segment? (B, C, h, w) embedding -> (B,) logit, or (B, K), one per class.

    Every cell gives evidence on its own; its mean and its maximum are weighed. A small lesion shows in
    the maximum only.
    """

    def __init__(self, channels: int, kinds: int = 32) -> None:
        super().__init__()
        self.evidence = nn.Conv2d(channels, kinds, 1)
        self.linear = nn.Linear(2 * kinds, 1)

    def answer_for(self, classes: int) -> None:
        """One score for each of so many classes, equal at first."""
        before, self.linear = self.linear, nn.Linear(self.linear.in_features, classes)
        with torch.no_grad():
            self.linear.weight.copy_(before.weight[:1].expand(classes, -1))
            self.linear.bias.copy_(before.bias[:1].expand(classes))

    def forward(self, embedding: Tensor) -> Tensor:
        evidence = F.gelu(self.evidence(embedding))
        pooled = torch.cat([evidence.mean(dim=(2, 3)), evidence.amax(dim=(2, 3))], dim=1)
        scores = self.linear(pooled)
        return scores.squeeze(1) if self.linear.out_features == 1 else scores


class Sam(nn.Module):
    """A promptable segmenter.

    Args:
        architecture: a name in `samling.models.architectures.ARCHITECTURES`.
        input_size: side of the square input in pixels.
        automatic: whether the learned default prompt and the presence score are there.

    Raises:
        ValueError: the encoder cannot see an input of this size.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, architecture: str, input_size: int = 256, *, automatic: bool = True) -> None:
        super().__init__()
        self.architecture, self.input_size = architecture, input_size
        made_of = ARCHITECTURES[architecture]
        self.image_encoder = made_of.image_encoder(input_size)
        if input_size % self.image_encoder.multiple:
            step = self.image_encoder.multiple
            raise ValueError(
                f"{architecture} takes sides that are multiples of {step} px, not {input_size}"
            )
        self.embedding_size = input_size // self.image_encoder.stride
        self.prompt_encoder = PromptEncoder(input_size, self.embedding_size)
        self.mask_decoder = made_of.decoder(best=made_of.best)
        self.presence = PresenceHead(EMBEDDING_CHANNELS) if automatic else None
        widths = (EMBEDDING_CHANNELS // 8, EMBEDDING_CHANNELS // 4)
        # Zero at first, so that a decoder trained without them starts unchanged
        self.skips = nn.ModuleList(
            nn.Conv2d(level, width, 1)
            for level, width in zip(self.image_encoder.skip_widths, widths, strict=False)
        )
        for parameter in self.skips.parameters():
            nn.init.zeros_(parameter)
        self.fusion: Fusion | None = None
        self.anatomy: AnatomyExtractor | None = None
        self.normalised = made_of.normalised
        for name, values in (("mean", IMAGENET_MEAN), ("deviation", IMAGENET_DEVIATION)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def extend(self, *, classes: int = 1, fusion: bool = False, anatomy: bool = False) -> None:
        """New layers on a base; none of them changes what it computes until it learns.

        Args:
            classes: automatic mode answers for each of so many classes.
            fusion, anatomy: see the modules of these names.
        """
        device = self.mean.device
        if classes > 1:
            self.prompt_encoder.answer_for(classes)
            if self.presence is not None:
                self.presence.answer_for(classes)
        if fusion:
            self.fusion = Fusion(self.level_widths, EMBEDDING_CHANNELS)
        if anatomy:
            self.anatomy = AnatomyExtractor(EMBEDDING_CHANNELS)
        self.to(device).train(self.training)

    @property
    def module(self) -> nn.Module:
        """The model itself."""
        return self

    @property
    def sites(self) -> Sites:
        """Where adapters may go: `block`, `mlp`, and in TinyViT `attention` and `conv`."""
        return self.image_encoder.sites("image_encoder")

    def encode(self, images: Tensor) -> Embedding:
        """(B, 1, S, S) grey images in [0, 1] -> embedding (B, 256, h, w) and presence (B,) or (B, K).

        (B, 3, S, S): a slice between its neighbours, as the three channels. Models that normalise take -1
        for padding of the mean colour, SAM's own kind.
        """
        *levels, embedding = self.levels(images)
        presence = None if self.presence is None else self.presence(embedding)
        return Embedding(embedding, presence, self._skips(levels, embedding))

    def skips_of(self, levels: list[Tensor]) -> tuple[Tensor, ...]:
        """What the decoder takes of the encoder's stages, from fine to coarse; () if nothing."""
        return tuple(conv(level) for conv, level in zip(self.skips, levels, strict=False))

    def _skips(self, levels: list[Tensor], embedding: Tensor) -> tuple[Tensor, ...]:
        own = self.skips_of(levels)
        if self.fusion is None:
            return own
        new = self.fusion(levels, embedding)
        return tuple(a + b for a, b in zip(own, new, strict=True)) if own else new

    @property
    def level_widths(self) -> tuple[int, ...]:
        """Channels of what `levels` gives before the embedding."""
        return self.image_encoder.level_widths

    @property
    def level_strides(self) -> tuple[int, ...]:
        """Pixels per cell of the same."""
        return self.image_encoder.level_strides

    def levels(self, images: Tensor) -> list[Tensor]:
        """(B, 1 | 3, S, S) -> outputs (B, c, h, w) of the encoder's stages, and the embedding last.

        SAM 2's are those of its pyramid; a ViT's all have one grid.
        """
        pixels = images.expand(-1, 3, -1, -1)
        if self.normalised:
            pixels = torch.where(images < 0, 0.0, (pixels - self.mean) / self.deviation)
        return self.image_encoder.levels(pixels)

    def decode(
        self, embedding: Embedding, prompts: PromptTokens, *, multimask: bool = False
    ) -> MaskLogits:
        """Masks of every prompt; with `multimask` the three alternatives of SAM instead of one.

        Returns:
            (B, P, 4h, 4w) logits and (B, P) quality; with `multimask`, (B, P * 3, ...), prompt by prompt.
        """
        batch, objects, tokens, _ = prompts.coords.shape
        count = batch * objects
        coords = prompts.coords.reshape(count, tokens, 2)
        labels = prompts.labels.reshape(count, tokens)
        sparse = self.prompt_encoder.sparse(coords, labels)
        masks = None if prompts.masks is None else prompts.masks.flatten(0, 1).unsqueeze(1)
        given = None if prompts.mask_given is None else prompts.mask_given.flatten()
        dense = self.prompt_encoder.dense(masks, given, count)
        image, *skips = (
            part if objects == 1 else part.repeat_interleave(objects, dim=0)
            for part in (embedding.image, *embedding.skips)
        )
        positions = self.prompt_encoder.grid()
        if self.anatomy is not None:
            automatic = labels >= Token.AUTOMATIC
            seen, place = self.anatomy(image + positions, sparse, automatic)
            sparse, dense = sparse + seen, dense + place
        logits, quality = self.mask_decoder.masks(
            image,
            positions,
            sparse,
            dense,
            tuple(skips),
            multimask=multimask,
        )
        return MaskLogits(logits.reshape(batch, -1, *logits.shape[-2:]), quality.reshape(batch, -1))
