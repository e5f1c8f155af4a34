"""SAM's mask decoder (Kirillov et al. 2023, arXiv 2304.02643), its relatives, room for finer features."""

import torch
from torch import Tensor, nn
from transformers.models.sam.configuration_sam import SamMaskDecoderConfig
from transformers.models.sam.modeling_sam import SamFeedForward, SamMaskDecoder

STABILITY_MARGIN = 0.05
STABILITY_NEEDED = 0.98


class MaskDecoder(SamMaskDecoder):  # type: ignore[misc]  # its types are not seen
    """Transformers' modules, one object per row, and skip features added while upscaling.

    The skips enter as in SAM 2 (Ravi et al. 2024, arXiv 2408.00714): before the norm and the
    activation of the two upscaling steps.

    Args:
        best: the answer is the best of the three alternatives by predicted quality, not mask 0.
        activation: of the transformer's MLPs.
    """

    def __init__(self, *, best: bool = False, activation: str = "relu") -> None:
        # SAM's own LayerNorms use 1e-5; transformers' default is 1e-6. Eager: the fused attention is
        # no faster on 256 cells, and its backward pass on a CPU is many times slower.
        super().__init__(
            SamMaskDecoderConfig(
                layer_norm_eps=1e-5, attn_implementation="eager", hidden_act=activation
            )
        )
        self.best = best

    def own_tokens(self) -> Tensor:
        """(K, C) tokens before those of the prompts: quality, then one per mask."""
        return torch.cat([self.iou_token.weight, self.mask_tokens.weight])

    def masks(
        self,
        image: Tensor,
        positions: Tensor,
        sparse: Tensor,
        dense: Tensor,
        skips: tuple[Tensor, ...] = (),
        *,
        multimask: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Decode N objects, each with its own row of the image embedding.

        Args:
            image: (N, C, h, w). positions: (1, C, h, w), one for all.
            sparse: (N, T, C) tokens of the prompts. dense: (N, C, h, w).
            skips: () or (N, C / 8, 4h, 4w) and (N, C / 4, 2h, 2w).

        Returns:
            (N, M, 4h, 4w) logits and (N, M) quality; M is 3 with `multimask`, else 1.
        """
        count, channels, height, width = image.shape
        own = self.own_tokens()
        tokens = torch.cat([own.expand(count, -1, -1), sparse], dim=1)
        seen, image = self.transformer(
            point_embeddings=tokens.unsqueeze(1),
            image_embeddings=image + dense,
            image_positional_embeddings=positions.expand(count, -1, -1, -1),
            attention_similarity=None,
        )
        seen = seen[:, 0, len(own) - self.num_mask_tokens - 1 :]  # quality, masks, prompts
        # N, 1, h * w, C -> N, C, h, w
        up = self.upscale_conv1(
            image.squeeze(1).transpose(1, 2).view(count, channels, height, width)
        )
        up = self.activation(self.upscale_layer_norm(up + skips[1] if skips else up))
        up = self.upscale_conv2(up)
        up = self.activation(up + skips[0] if skips else up)
        chosen = self._needed(multimask)
        weights = [self.output_hypernetworks_mlps[i](seen[:, 1 + i]) for i in chosen]
        logits = torch.stack(weights, dim=1) @ up.flatten(2)
        quality = self.iou_prediction_head(seen[:, 0])[:, chosen.start : chosen.stop]
        logits = logits.view(count, len(weights), 4 * height, 4 * width)
        return (logits, quality) if multimask else self._answer(logits, quality)

    def _needed(self, multimask: bool) -> range:
        """Which of the masks are computed."""
        several = range(1, self.num_mask_tokens)
        return several if multimask or self.best else range(1)

    def _answer(self, logits: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """One mask of those computed: (N, 1, ...) and (N, 1)."""
        return best_of(logits, quality)


class Sam2MaskDecoder(MaskDecoder):
    """SAM 2's: a token for 'is the object there?', quality in 0..1, and an answer that must be stable.

    A single mask whose area changes too much with the threshold gives way to the best of the three
    alternatives. While weights learn, it never does: else its token would learn from some prompts only.
    """

    def __init__(self, *, best: bool = False) -> None:
        super().__init__(best=best)
        self.obj_score_token = nn.Embedding(1, self.hidden_size)
        self.pred_obj_score_head = SamFeedForward(self.hidden_size, self.hidden_size, 1, 3)
        self.iou_prediction_head.sigmoid_output = True

    def own_tokens(self) -> Tensor:
        """Object score, quality, masks."""
        return torch.cat([self.obj_score_token.weight, super().own_tokens()])

    def _needed(self, multimask: bool) -> range:
        if multimask or torch.is_grad_enabled():
            return super()._needed(multimask)
        return range(self.num_mask_tokens)

    def _answer(self, logits: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        if logits.shape[1] == 1:
            return logits, quality
        other, other_quality = best_of(logits[:, 1:], quality[:, 1:])
        inner = (logits[:, 0] > STABILITY_MARGIN).flatten(1).sum(1).float()
        outer = (logits[:, 0] > -STABILITY_MARGIN).flatten(1).sum(1).float()
        stable = (inner >= STABILITY_NEEDED * outer).unsqueeze(1)
        return (
            torch.where(stable[..., None, None], logits[:, :1], other),
            torch.where(stable, quality[:, :1], other_quality),
        )


class EfficientMaskDecoder(MaskDecoder):
    """EfficientSAM's (Xiong et al. 2023, arXiv 2312.00863): GELU everywhere, one norm over all channels."""

    def __init__(self, *, best: bool = False) -> None:
        super().__init__(best=best, activation="gelu")
        self.upscale_layer_norm = nn.GroupNorm(1, self.hidden_size // 4)
        for head in (*self.output_hypernetworks_mlps, self.iou_prediction_head):
            head.activation = nn.GELU()


def best_of(logits: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
    """(N, M, h, w) and (N, M) -> of every row the mask of highest quality, (N, 1, h, w) and (N, 1)."""
    if logits.shape[1] == 1:
        return logits, quality
    index = quality.argmax(dim=1, keepdim=True)
    wide = index[..., None, None].expand(-1, -1, *logits.shape[-2:])
    return logits.gather(1, wide), quality.gather(1, index)
