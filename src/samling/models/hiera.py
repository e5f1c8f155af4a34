"""Hiera encoder with the neck of SAM 2 (Ravi et al. 2024, arXiv 2408.00714), from transformers' modules."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.sam2.configuration_sam2 import Sam2HieraDetConfig, Sam2VisionConfig
from transformers.models.sam2.modeling_sam2 import Sam2VisionModel

from samling.models.contract import Site, Sites

PYRAMID_CHANNELS = 256


@dataclass(frozen=True)
class HieraShape:
    """Dimensions of a Hiera; widths and heads double from stage to stage.

    Args:
        width: channels of the first stage.
        depths: blocks of the four stages.
        global_blocks: blocks that attend to the whole grid, counted over all stages.
        windows: side of the attention windows of the four stages.
        background: side of the position table that is stretched over the grid.
    """

    width: int
    heads: int
    depths: tuple[int, int, int, int]
    global_blocks: tuple[int, int, int]
    windows: tuple[int, int, int, int] = (8, 4, 14, 7)
    background: int = 7

    def widths(self) -> list[int]:
        """Channels of the stages."""
        return [self.width * 2**stage for stage in range(len(self.depths))]


HIERAS = {
    "hiera-t": HieraShape(96, 1, (1, 2, 7, 2), (5, 7, 9)),
    "hiera-s": HieraShape(96, 1, (1, 2, 11, 2), (7, 10, 13)),
    "hiera-b+": HieraShape(112, 2, (2, 3, 16, 3), (12, 16, 20), background=14),
    "hiera-l": HieraShape(144, 2, (2, 6, 36, 4), (23, 33, 43), windows=(8, 4, 16, 8)),
    "hiera-mini": HieraShape(16, 1, (1, 2, 7, 2), (5, 7, 9)),
}
"""SAM 2's four encoders and UniUltra's student (arXiv 2511.15771)."""


class Hiera(Sam2VisionModel):  # type: ignore[misc]  # its types are not seen
    """Four stages of strides 4, 8, 16, 32 and a feature pyramid. Sides are multiples of 32."""

    multiple = 32
    stride = 16
    level_widths = skip_widths = (PYRAMID_CHANNELS, PYRAMID_CHANNELS)
    level_strides = (4, 8)

    def __init__(self, shape: HieraShape) -> None:
        widths = shape.widths()
        backbone = Sam2HieraDetConfig(
            hidden_size=shape.width,
            num_attention_heads=shape.heads,
            blocks_per_stage=list(shape.depths),
            embed_dim_per_stage=widths,
            num_attention_heads_per_stage=[shape.heads * 2**stage for stage in range(4)],
            global_attention_blocks=list(shape.global_blocks),
            window_size_per_stage=list(shape.windows),
            window_positional_embedding_background_size=[shape.background] * 2,
        )
        super().__init__(
            Sam2VisionConfig(backbone_config=backbone, backbone_channel_list=widths[::-1])
        )
        self.shape = shape
        # "No memory of earlier frames": what SAM 2 adds to the embedding of a single image
        self.no_memory = nn.Parameter(torch.zeros(1, 1, PYRAMID_CHANNELS))

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> four maps of 256 channels at strides 4, 8, 16, 32."""
        x = self.backbone.patch_embed(images)
        x = x + self.backbone._get_pos_embed(x.shape[1:3])
        stages = []
        for index, block in enumerate(self.backbone.blocks):
            x = block(x)
            if index in self.backbone.stage_ends:
                stages.append(x.permute(0, 3, 1, 2))  # B, H, W, C -> B, C, H, W
        # The neck's convolutions run from coarse to fine; only stride 16 sees what is coarser
        fine, middle, deep, coarse = (
            conv(stage) for conv, stage in zip(reversed(self.neck.convs), stages, strict=True)
        )
        deep = deep + F.interpolate(coarse, scale_factor=2.0, mode="nearest")
        return [fine, middle, deep, coarse]

    def levels(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> maps at strides 4 and 8, and the embedding at stride 16."""
        fine, middle, deep, _ = self.pyramid(images)
        return [fine, middle, deep + self.no_memory.view(1, -1, 1, 1)]

    def lateral(self, level: int) -> nn.Module:
        """The neck's convolution of a level, to 256 channels."""
        return self.neck.convs[len(self.neck.convs) - 1 - level]

    def sites(self, name: str) -> Sites:
        """`mlp` of every block; `block` but the first of a stage, which changes width and grid."""
        sites: Sites = {"block": [], "mlp": []}
        index = 0
        for stage, (width, depth) in enumerate(
            zip(self.shape.widths(), self.shape.depths, strict=True)
        ):
            for number in range(depth):
                path = f"{name}.backbone.blocks.{index}"
                if number or not stage:
                    sites["block"].append(Site(path, width, stage))
                sites["mlp"].append(Site(f"{path}.mlp", width, stage))
                index += 1
        return sites
