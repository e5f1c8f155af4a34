"""The networks written here against the counts that their papers and others publish."""

import pytest
import torch

from samling.models.networks.deeplab import DeepLabV3Plus
from samling.models.networks.dilated_tree import DilatedTree, Tree
from samling.models.networks.fc_densenet import FCDenseNet
from samling.models.networks.plan import plan_unet
from samling.models.networks.registry import NETWORKS
from samling.models.networks.segnet import SegNet


def count(*modules: torch.nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def test_segnets_encoder_is_vgg16() -> None:
    model = SegNet(3, 64, classes=12)
    convolutions = [m for m in model.down.modules() if isinstance(m, torch.nn.Conv2d)]
    assert count(*convolutions) == 14_714_688, "VGG-16 without its classifier"
    assert count(model) == pytest.approx(29.45e6, rel=0.01), "as the paper's Table counts"


def test_unpooling_puts_maxima_back_where_they_were() -> None:
    model = SegNet(1, 4)
    x = torch.rand(1, 4, 8, 8)
    small, places = model.pool(x)
    back = model.unpool(small, places)
    assert torch.equal(back[back > 0], x[back > 0]) and (back > 0).sum() == small.numel()


@pytest.mark.parametrize(
    ("layers", "bottleneck", "growth", "millions"),
    [
        ((4, 4, 4, 4, 4), 4, 12, 1.5),
        ((5, 5, 5, 5, 5), 5, 16, 3.5),
        ((4, 5, 7, 10, 12), 15, 16, 9.4),
    ],
)
def test_fc_densenet_has_as_many_weights_as_the_paper_says(
    layers, bottleneck, growth, millions
) -> None:
    model = FCDenseNet(3, growth, 48, layers, bottleneck, classes=12)
    assert count(model) / 1e6 == pytest.approx(millions, abs=0.15)


def test_deeplabs_trunk_is_resnet18_with_an_output_stride_of_16() -> None:
    model = DeepLabV3Plus(3, 64)
    assert count(model.stem, model.fine, model.coarse) == 11_176_512, "ResNet-18 without classifier"
    assert model.coarse(model.fine(model.stem(torch.rand(1, 3, 64, 64)))).shape[-2:] == (4, 4)


def test_a_batch_of_one_image_can_be_trained() -> None:
    for model in (DeepLabV3Plus(1, 4), DilatedTree(1, 4), SegNet(1, 4), FCDenseNet(1, 2, 8)):
        model.train()(torch.rand(1, 1, 64, 64)).sum().backward()


def test_stacked_trees_leave_no_pixel_out() -> None:
    trees = torch.nn.Sequential(Tree(4), Tree(4)).eval()
    for weight in trees.parameters():
        torch.nn.init.constant_(weight, 0.1)  # nothing cancels
    x = torch.ones(1, 4, 31, 31, requires_grad=True)
    trees(x)[0, 0, 15, 15].backward()
    seen = x.grad[0, 0] != 0
    assert seen[6:25, 6:25].all(), "one tree alone has gaps: hence stacked"
    assert not seen[:2].any()


def test_the_planned_unet_answers_as_monais_whole_network_does() -> None:
    from monai.networks.nets import DynUNet

    plan = plan_unet((64, 64), (1, 1), 4)
    torch.manual_seed(0)
    stages = NETWORKS["nnunet"][0](2, 4, 64).eval()
    torch.manual_seed(0)
    whole = DynUNet(
        2, 2, 1, plan.kernels, plan.strides, plan.strides[1:], filters=plan.features
    ).eval()
    assert count(stages) == count(whole)
    x = torch.rand(2, 2, 64, 64)
    assert torch.equal(stages(x), whole(x))
