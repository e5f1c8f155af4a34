"""SAM's mask decoder (Kirillov et al. 2023, arXiv 2304.02643) with room for finer encoder features."""

import torch
from torch import Tensor
from transformers.models.sam.configuration_sam import SamMaskDecoderConfig
from transformers.models.sam.modeling_sam import SamMaskDecoder


class MaskDecoder(SamMaskDecoder):  # type: ignore[misc]  # its types are not seen
    """Transformers' modules, one object per row, and skip features added while upscaling.

    The skips enter as in SAM 2 (Ravi et al. 2024, arXiv 2408.00714): before the norm and the
    activation of the two upscaling steps.
    """

    def __init__(self) -> None:
        # SAM's own LayerNorms use 1e-5; transformers' default is 1e-6. Eager: the fused attention is
        # no faster on 256 cells, and its backward pass on a CPU is many times slower.
        super().__init__(SamMaskDecoderConfig(layer_norm_eps=1e-5, attn_implementation="eager"))

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
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([own.expand(count, -1, -1), sparse], dim=1)
        seen, image = self.transformer(
            point_embeddings=tokens.unsqueeze(1),
            image_embeddings=image + dense,
            image_positional_embeddings=positions.expand(count, -1, -1, -1),
            attention_similarity=None,
        )
        seen = seen.squeeze(1)
        # N, 1, h * w, C -> N, C, h, w
        up = self.upscale_conv1(
            image.squeeze(1).transpose(1, 2).view(count, channels, height, width)
        )
        up = self.activation(self.upscale_layer_norm(up + skips[1] if skips else up))
        up = self.upscale_conv2(up)
        up = self.activation(up + skips[0] if skips else up)
        chosen = range(1, self.num_mask_tokens) if multimask else range(1)
        weights = [self.output_hypernetworks_mlps[i](seen[:, 1 + i]) for i in chosen]
        logits = torch.stack(weights, dim=1) @ up.flatten(2)
        quality = self.iou_prediction_head(seen[:, 0])[:, chosen.start : chosen.stop]
        return logits.view(count, len(weights), 4 * height, 4 * width), quality
