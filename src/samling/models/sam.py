"""Sam: TinyViT image encoder, prompt encoder and SAM's mask decoder as one `Promptable`."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samling.models.contract import Embedding, MaskLogits, PromptTokens, Site, Sites
from samling.models.mask_decoder import MaskDecoder
from samling.models.prompt_encoder import PromptEncoder
from samling.models.tiny_vit import EMBEDDING_CHANNELS, SHAPES, TinyViT


class PresenceHead(nn.Module):
    """Is there anything to segment? (B, C, h, w) embedding -> (B,) logit.

    Every cell gives evidence on its own; its mean and its maximum are weighed. A small lesion shows in
    the maximum only.
    """

    def __init__(self, channels: int, kinds: int = 32) -> None:
        super().__init__()
        self.evidence = nn.Conv2d(channels, kinds, 1)
        self.linear = nn.Linear(2 * kinds, 1)

    def forward(self, embedding: Tensor) -> Tensor:
        evidence = F.gelu(self.evidence(embedding))
        pooled = torch.cat([evidence.mean(dim=(2, 3)), evidence.amax(dim=(2, 3))], dim=1)
        return self.linear(pooled).squeeze(1)


class Sam(nn.Module):
    """A promptable segmenter with a TinyViT encoder.

    Args:
        architecture: name of an encoder, see `samling.models.tiny_vit.SHAPES`.
        input_size: side of the square input in pixels.
        automatic: whether the learned default prompt and the presence score are there.
    """

    def __init__(self, architecture: str, input_size: int = 256, *, automatic: bool = True) -> None:
        super().__init__()
        self.architecture, self.input_size = architecture, input_size
        shape = SHAPES[architecture]
        self.image_encoder = TinyViT(shape)
        self.embedding_size = input_size // shape.stride
        self.prompt_encoder = PromptEncoder(input_size, self.embedding_size)
        self.mask_decoder = MaskDecoder()
        self.presence = PresenceHead(EMBEDDING_CHANNELS) if automatic else None
        widths = (EMBEDDING_CHANNELS // 8, EMBEDDING_CHANNELS // 4) if shape.skips else ()
        # From stages 0 and 1; zero at first, so that a decoder trained without them starts unchanged
        self.skips = nn.ModuleList(
            nn.Conv2d(shape.widths[stage], width, 1) for stage, width in enumerate(widths)
        )
        for parameter in self.skips.parameters():
            nn.init.zeros_(parameter)

    @property
    def module(self) -> nn.Module:
        """The model itself."""
        return self

    @property
    def sites(self) -> Sites:
        """`block`: every block; `conv`: MBConv bodies of stage 0; `attention` and `mlp` of the others."""
        sites: Sites = {"block": [], "conv": [], "attention": [], "mlp": []}
        shape = self.image_encoder.shape
        for stage, (width, depth) in enumerate(zip(shape.widths, shape.depths, strict=True)):
            for index in range(depth):
                path = f"image_encoder.layers.{stage}.blocks.{index}"
                sites["block"].append(Site(path, width, stage, channels_first=True))
                if stage == 0:
                    sites["conv"].append(Site(f"{path}.body", width, stage, channels_first=True))
                    continue
                sites["attention"].append(Site(f"{path}.attn", width, stage))
                sites["mlp"].append(Site(f"{path}.mlp", width, stage))
        return sites

    def encode(self, images: Tensor) -> Embedding:
        """(B, 1, S, S) grey images in [0, 1] -> embedding (B, 256, h, w) and presence (B,)."""
        *levels, embedding = self.levels(images)
        skips = tuple(conv(levels[stage]) for stage, conv in enumerate(self.skips))
        presence = None if self.presence is None else self.presence(embedding)
        return Embedding(embedding, presence, skips)

    @property
    def level_widths(self) -> tuple[int, ...]:
        """Channels of what `levels` gives before the embedding."""
        return self.image_encoder.shape.widths

    def levels(self, images: Tensor) -> list[Tensor]:
        """(B, 1, S, S) -> outputs (B, c, h, w) of the encoder's stages, and the embedding last."""
        return self.image_encoder.levels(images.expand(-1, 3, -1, -1))

    def decode(
        self, embedding: Embedding, prompts: PromptTokens, *, multimask: bool = False
    ) -> MaskLogits:
        """Masks of every prompt; with `multimask` the three alternatives of SAM instead of one.

        Returns:
            (B, P, 4h, 4w) logits and (B, P) quality; with `multimask`, (B, P * 3, ...), prompt by prompt.
        """
        batch, objects, tokens, _ = prompts.coords.shape
        count = batch * objects
        sparse = self.prompt_encoder.sparse(
            prompts.coords.reshape(count, tokens, 2), prompts.labels.reshape(count, tokens)
        )
        masks = None if prompts.masks is None else prompts.masks.flatten(0, 1).unsqueeze(1)
        given = None if prompts.mask_given is None else prompts.mask_given.flatten()
        dense = self.prompt_encoder.dense(masks, given, count)
        image, *skips = (
            part if objects == 1 else part.repeat_interleave(objects, dim=0)
            for part in (embedding.image, *embedding.skips)
        )
        logits, quality = self.mask_decoder.masks(
            image,
            self.prompt_encoder.grid(),
            sparse,
            dense,
            tuple(skips),
            multimask=multimask,
        )
        return MaskLogits(logits.reshape(batch, -1, *logits.shape[-2:]), quality.reshape(batch, -1))
