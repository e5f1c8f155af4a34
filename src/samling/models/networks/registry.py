"""Networks by name, MONAI's where it has one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from samling.models.networks.deeplab import DeepLabV3Plus
from samling.models.networks.dilated_tree import DilatedTree
from samling.models.networks.fc_densenet import FCDenseNet
from samling.models.networks.plan import plan_unet
from samling.models.networks.segnet import SegNet

Make = Callable[[int, int, int], nn.Module]
"""(channels, width, side of the square) -> (B, channels, S, S) to (B, 1, S, S)."""


def _unet(channels: int, width: int, side: int) -> nn.Module:
    from monai.networks.nets import BasicUNet

    return BasicUNet(2, channels, 1, features=_features(width))


def _unet_plus_plus(channels: int, width: int, side: int) -> nn.Module:
    from monai.networks.nets import BasicUNetPlusPlus

    return _First(BasicUNetPlusPlus(2, channels, 1, features=_features(width)))


def _nnunet(channels: int, width: int, side: int) -> nn.Module:
    from monai.networks.nets import DynUNet

    plan = plan_unet((side, side), (1, 1), width)
    return _Stages(
        DynUNet(2, channels, 1, plan.kernels, plan.strides, plan.strides[1:], filters=plan.features)
    )


def _features(width: int) -> tuple[int, ...]:
    """MONAI's default shape: five levels and the width of the last step up."""
    return width, width, 2 * width, 4 * width, 8 * width, width


class _First(nn.Module):
    """The first of the outputs of a network that gives a list."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)[0]


class _Stages(nn.Module):
    """The stages of a DynUNet, each once: MONAI's also hangs all of them into a chain of skips.

    Weights that stand under two names cannot be saved as safetensors.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.down = nn.ModuleList([network.input_block, *network.downsamples])
        self.bottleneck = network.bottleneck
        self.up, self.output = network.upsamples, network.output_block

    def forward(self, x: Tensor) -> Any:
        skips = []
        for stage in self.down:
            x = stage(x)
            skips.append(x)
        x = self.bottleneck(x)
        for stage, skip in zip(self.up, reversed(skips), strict=True):
            x = stage(x, skip)
        return self.output(x)


def _segnet(channels: int, width: int, side: int) -> nn.Module:
    return _by_pixel(SegNet(channels, width))


def _deeplab(channels: int, width: int, side: int) -> nn.Module:
    return _by_pixel(DeepLabV3Plus(channels, width))


def _fc_densenet(channels: int, width: int, side: int) -> nn.Module:
    return _by_pixel(FCDenseNet(channels, width, 4 * width))


def _dilated_tree(channels: int, width: int, side: int) -> nn.Module:
    return _by_pixel(DilatedTree(channels, width))


def _by_pixel(network: nn.Module) -> nn.Module:
    """The network with a pixel's channels side by side in memory: a tenth to a half faster in training.

    Not for MONAI's, whose instance norms are slower so (benchmarks/networks.py).
    """
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


NETWORKS: dict[str, tuple[Make, int]] = {
    "unet": (_unet, 32),
    "unet++": (_unet_plus_plus, 16),
    "segnet": (_segnet, 24),
    "deeplabv3+": (_deeplab, 48),
    "fc-densenet": (_fc_densenet, 8),
    "dilated-tree": (_dilated_tree, 16),
    "nnunet": (_nnunet, 32),
}
"""Name -> how it is made, and its usual width: the channels that it starts with (FC-DenseNet: a quarter).

The widths make all cost 4 to 6 GMACs at 256 px, but for nnU-Net, whose rules say 32 (15 GMACs).
"""
