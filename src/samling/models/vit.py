"""SAM's ViT image encoder (Kirillov et al. 2023, arXiv 2304.02643), from transformers' modules."""

from dataclasses import dataclass

from torch import Tensor, nn
from transformers.models.sam.configuration_sam import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder

from samling.models.contract import Site, Sites

PATCH = 16
STAGES = 4


@dataclass(frozen=True)
class VitShape:
    """Dimensions of a ViT.

    Args:
        width, depth, heads: as usual.
        windowed: windows of 14 and relative positions, but for the last block of every quarter, which
            sees all; else every block sees all, without relative positions (EfficientSAM).
        gated: SAM-Med2D's adapter beside every MLP.
    """

    width: int
    depth: int
    heads: int
    windowed: bool = True
    gated: bool = False

    def global_blocks(self) -> list[int]:
        """Blocks that attend to the whole grid."""
        quarter = self.depth // STAGES
        return [i for i in range(self.depth) if not self.windowed or (i + 1) % quarter == 0]


VITS = {
    "vit-b": VitShape(768, 12, 12),
    "vit-l": VitShape(1024, 24, 16),
    "vit-h": VitShape(1280, 32, 16),
    "vit-b-gated": VitShape(768, 12, 12, gated=True),
    "vit-tiny": VitShape(192, 12, 3, windowed=False),
    "vit-small": VitShape(384, 12, 6, windowed=False),
}
"""SAM's three encoders, SAM-Med2D's and EfficientSAM's two."""


class GatedAdapter(nn.Module):
    """SAM-Med2D's adapter (Cheng et al. 2023, arXiv 2308.16184). (B, H, W, C) -> (B, H, W, C).

    `norm(x + spatial(channel(mean(x)) · x))`: channels are weighed, then a strided convolution and
    its transpose see the neighbourhood.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = width // 4
        self.channel = nn.Sequential(
            nn.Linear(width, inner, bias=False),
            nn.ReLU(),
            nn.Linear(inner, width, bias=False),
            nn.Sigmoid(),
        )
        self.spatial = nn.Sequential(
            nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False),
            nn.ReLU(),
            nn.ConvTranspose2d(width, width, 4, stride=2, padding=1, bias=False),
            nn.ReLU(),
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        weighed = x * self.channel(x.mean(dim=(1, 2)))[:, None, None]
        # B, H, W, C -> B, C, H, W and back
        seen = self.spatial(weighed.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.norm(x + seen)


class GatedMlp(nn.Module):
    """An MLP with SAM-Med2D's adapter beside it: `mlp(x) + adapter(x)`."""

    def __init__(self, mlp: nn.Module, width: int) -> None:
        super().__init__()
        self.mlp, self.adapter = mlp, GatedAdapter(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x) + self.adapter(x)


class VisionTransformer(SamVisionEncoder):  # type: ignore[misc]  # its types are not seen
    """One grid of stride 16. (B, 3, S, S) -> (B, 256, S / 16, S / 16), S fixed by the position table."""

    multiple = PATCH
    stride = PATCH
    skip_widths = level_strides = ()

    def __init__(self, shape: VitShape, input_size: int) -> None:
        super().__init__(
            SamVisionConfig(
                hidden_size=shape.width,
                num_hidden_layers=shape.depth,
                num_attention_heads=shape.heads,
                global_attn_indexes=shape.global_blocks(),
                use_rel_pos=shape.windowed,
                image_size=input_size,
                initializer_range=0.02,  # transformers' default, 1e-10, is for loaded weights only
            )
        )
        self.shape = shape
        self.level_widths = (shape.width,) * (STAGES - 1)
        if shape.gated:
            for layer in self.layers:
                layer.mlp = GatedMlp(layer.mlp, shape.width)

    def levels(self, images: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> (B, C, h, w) behind the first three quarters of the blocks, and the embedding."""
        x = self.patch_embed(images) + self.pos_embed
        found = []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index + 1 in self._quarters:
                found.append(x.permute(0, 3, 1, 2))  # B, H, W, C -> B, C, H, W
        return [*found, self.neck(x)]

    @property
    def _quarters(self) -> list[int]:
        return [self.shape.depth * quarter // STAGES for quarter in range(1, STAGES)]

    def lateral(self, level: int) -> nn.Module:
        """It has one grid and no levels: nothing stands behind its blocks."""
        return nn.Identity()

    def sites(self, name: str) -> Sites:
        """`block` and `mlp` of every block; a stage is a quarter of them."""
        sites: Sites = {"block": [], "mlp": []}
        for index in range(self.shape.depth):
            path, stage = f"{name}.layers.{index}", index * STAGES // self.shape.depth
            sites["block"].append(Site(path, self.shape.width, stage))
            sites["mlp"].append(Site(f"{path}.mlp", self.shape.width, stage))
        return sites
