"""Sam: TinyViT image encoder, prompt encoder and SAM's mask decoder as one `Promptable`."""

import torch
from torch import Tensor, nn
from transformers.models.sam.configuration_sam import SamMaskDecoderConfig
from transformers.models.sam.modeling_sam import SamMaskDecoder

from samling.models.contract import Embedding, MaskLogits, PromptTokens, Site, Sites
from samling.models.prompt_encoder import PromptEncoder
from samling.models.tiny_vit import DEPTHS, EMBEDDING_CHANNELS, WIDTHS, Stem, TinyViT


class PresenceHead(nn.Module):
    """Is there anything to segment? (B, C, h, w) embedding -> (B,) logit.

    Looks at the mean and at the maximum of every channel: a small lesion shows in the maximum only.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * channels, 1)

    def forward(self, embedding: Tensor) -> Tensor:
        pooled = torch.cat([embedding.mean(dim=(2, 3)), embedding.amax(dim=(2, 3))], dim=1)
        return self.linear(pooled).squeeze(1)


class Sam(nn.Module):
    """A promptable segmenter with a TinyViT encoder.

    Args:
        stem: `full` (LiteMedSAM) or `light` (stride 4), see `samling.models.tiny_vit`.
        input_size: side of the square input in pixels.
        automatic: whether the learned default prompt and the presence score are there.
    """

    def __init__(self, stem: Stem, input_size: int = 256, *, automatic: bool = True) -> None:
        super().__init__()
        self.input_size = input_size
        self.image_encoder = TinyViT(stem)
        self.embedding_size = input_size // self.image_encoder.stride
        self.prompt_encoder = PromptEncoder(input_size, self.embedding_size)
        # SAM's own LayerNorms use 1e-5; transformers' default is 1e-6
        config = SamMaskDecoderConfig(layer_norm_eps=1e-5, attn_implementation="sdpa")
        self.mask_decoder = SamMaskDecoder(config)
        self.presence = PresenceHead(EMBEDDING_CHANNELS) if automatic else None

    @property
    def module(self) -> nn.Module:
        """The model itself."""
        return self

    @property
    def sites(self) -> Sites:
        """`block`: all 12 blocks; `conv`: MBConv bodies; `attention` and `mlp` of the other ten."""
        sites: Sites = {"block": [], "conv": [], "attention": [], "mlp": []}
        for stage, (width, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True)):
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
        embedding = self.image_encoder(images.expand(-1, 3, -1, -1))
        return Embedding(embedding, None if self.presence is None else self.presence(embedding))

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
        image = (
            embedding.image.repeat_interleave(objects, dim=0) if objects > 1 else embedding.image
        )
        logits, quality = self.mask_decoder(
            image_embeddings=image,
            image_positional_embeddings=self.prompt_encoder.grid().expand(count, -1, -1, -1),
            sparse_prompt_embeddings=sparse.unsqueeze(1),
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
        )
        return MaskLogits(logits.reshape(batch, -1, *logits.shape[-2:]), quality.reshape(batch, -1))
