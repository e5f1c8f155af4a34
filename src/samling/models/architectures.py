"""Architectures by name: an image encoder, how pixels are normalised, and a mask decoder."""

from dataclasses import dataclass

from samling.models.hiera import HIERAS, Hiera, HieraShape
from samling.models.mask_decoder import EfficientMaskDecoder, MaskDecoder, Sam2MaskDecoder
from samling.models.tiny_vit import SHAPES, Shape, TinyViT
from samling.models.vit import VITS, VisionTransformer, VitShape

ImageEncoder = TinyViT | VisionTransformer | Hiera


@dataclass(frozen=True)
class Architecture:
    """What `Sam` is made of.

    Args:
        shape: of the encoder.
        normalised: whether pixels in [0, 1] are brought to ImageNet's mean and deviation.
        decoder: the class of the mask decoder.
        best: of three masks the one of highest predicted quality is the answer, not the single one.
    """

    shape: Shape | VitShape | HieraShape
    normalised: bool = False
    decoder: type[MaskDecoder] = MaskDecoder
    best: bool = False

    def image_encoder(self, input_size: int) -> ImageEncoder:
        """A new encoder for a square of `input_size` px."""
        if isinstance(self.shape, Shape):
            return TinyViT(self.shape)
        if isinstance(self.shape, HieraShape):
            return Hiera(self.shape)
        return VisionTransformer(self.shape, input_size)


ARCHITECTURES: dict[str, Architecture] = {
    **{name: Architecture(shape) for name, shape in SHAPES.items() if name != "mobile"},
    "mobilesam": Architecture(SHAPES["mobile"], normalised=True),
    **{
        f"sam-{name}": Architecture(VITS[name], normalised=True)
        for name in ("vit-b", "vit-l", "vit-h")
    },
    "medsam": Architecture(VITS["vit-b"]),
    "sam-med2d": Architecture(VITS["vit-b-gated"], normalised=True, best=True),
    "efficientsam-ti": Architecture(VITS["vit-tiny"], True, EfficientMaskDecoder, best=True),
    "efficientsam-s": Architecture(VITS["vit-small"], True, EfficientMaskDecoder, best=True),
    **{f"sam2-{name}": Architecture(HIERAS[name], True, Sam2MaskDecoder) for name in HIERAS},
    # UniUltra's student for teachers with SAM's own mask decoder, ours among them
    "hiera-mini": Architecture(HIERAS["hiera-mini"], normalised=True),
}
"""`Sam(name)`; cards name them, too."""
