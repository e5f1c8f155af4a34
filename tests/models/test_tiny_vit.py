"""TinyViT against explicit loops; its sizes, grids and gradients."""

import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from samling.models.tiny_vit import (
    SHAPES,
    ChannelNorm,
    ConvNorm,
    TinyViT,
    TinyViTBlock,
    WindowAttention,
    fold_norms,
)


def randomised(module):
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    return module.eval()


def attention_by_hand(module, x, window):
    """softmax(q k / sqrt(d) + bias[|dy|, |dx|]) v, token by token."""
    tokens, width = x.shape
    size = width // module.heads
    normed = nn.functional.layer_norm(x, (width,), module.norm.weight, module.norm.bias)
    rows = (normed @ module.qkv.weight.T + module.qkv.bias).view(tokens, module.heads, 3 * size)
    out = torch.zeros(tokens, module.heads, size)
    for head in range(module.heads):
        q, k, v = rows[:, head].split(size, dim=1)
        for i in range(tokens):
            scores = torch.stack([q[i] @ k[j] / math.sqrt(size) for j in range(tokens)])
            for j in range(tokens):
                dy, dx = abs(i // window - j // window), abs(i % window - j % window)
                scores[j] += module.attention_biases[head, dy * window + dx]
            out[i, head] = scores.softmax(0) @ v
    return out.reshape(tokens, width) @ module.proj.weight.T + module.proj.bias


@torch.no_grad()
def test_window_attention_is_softmax_with_a_bias_per_offset():
    module = randomised(WindowAttention(width=8, heads=2, window=3))
    x = torch.randn(2, 9, 8)
    expected = torch.stack([attention_by_hand(module, one, 3) for one in x])
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_biases_matter():
    module = randomised(WindowAttention(width=8, heads=2, window=3))
    x = torch.randn(1, 9, 8)
    with_biases = module(x)
    module.attention_biases.zero_()
    assert (module(x) - with_biases).abs().max() > 1e-2


def test_gradients_repeat_bit_for_bit():
    """Or a resumed training would not end as an uninterrupted one; two threads are enough to differ."""
    torch.set_num_threads(2)
    module = randomised(WindowAttention(width=40, heads=5, window=16))
    x = torch.randn(1, 256, 40)
    gradients = []
    for _ in range(15):
        module.zero_grad()
        module(x).square().sum().backward()
        gradients.append(module.attention_biases.grad.clone())
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)


@torch.no_grad()
@pytest.mark.parametrize("side", [8, 10])
def test_windows_attend_for_themselves_and_padding_is_cut_off(side):
    block = randomised(TinyViTBlock(width=8, heads=2, window=4))
    x = torch.randn(1, side, side, 8)
    padded = torch.zeros(1, 12, 12, 8)
    padded[:, :side, :side] = x
    expected = torch.zeros_like(padded)
    for y in range(0, -(-side // 4) * 4, 4):
        for left in range(0, -(-side // 4) * 4, 4):
            tile = padded[:, y : y + 4, left : left + 4].reshape(1, 16, 8)
            expected[:, y : y + 4, left : left + 4] = block.attn(tile).reshape(1, 4, 4, 8)
    torch.testing.assert_close(block._attend(x), expected[:, :side, :side])


@torch.no_grad()
def test_channel_norm_normalises_every_pixel():
    norm = randomised(ChannelNorm(6, eps=1e-6))
    x = torch.randn(2, 6, 3, 4)
    pixel = x[1, :, 2, 3]
    scaled = (pixel - pixel.mean()) / (pixel.var(unbiased=False) + 1e-6).sqrt()
    torch.testing.assert_close(norm(x)[1, :, 2, 3], scaled * norm.weight + norm.bias)


@pytest.mark.parametrize(
    ("stem", "count"),
    [("light", 5_746_112), ("full", 5_726_740), ("lean", 5_509_952), ("tiny", 1_398_576)],
)
def test_number_of_weights(stem, count):
    assert sum(p.numel() for p in TinyViT(SHAPES[stem]).parameters()) == count


def test_the_shipped_encoder_takes_four_gigaflops():
    """Two per multiply-add, skips left out; with gradients attention is written out and counted."""
    with FlopCounterMode(display=False) as counter:
        TinyViT(SHAPES["lean-bare"]).eval()(torch.rand(1, 3, 256, 256))
    assert round(counter.get_total_flops() / 1e9, 2) <= 4.0


@torch.no_grad()
@pytest.mark.parametrize(
    ("stem", "side", "grid"),
    [
        ("light", 64, 4),
        ("light", 256, 16),
        ("light", 272, 17),
        ("full", 32, 8),
        ("full", 64, 16),
        ("fine", 64, 8),
    ],
)
def test_size_of_the_embedding(stem, side, grid):
    assert TinyViT(SHAPES[stem]).eval()(torch.rand(1, 3, side, side)).shape == (1, 256, grid, grid)


def test_gradients_reach_every_weight():
    encoder = TinyViT(SHAPES["light"])
    encoder(torch.rand(2, 3, 64, 64)).square().mean().backward()
    dead = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters())


@torch.no_grad()
def test_folding_batch_norms_changes_nothing_but_rounding():
    torch.manual_seed(1)
    encoder = TinyViT(SHAPES["light"]).eval()
    for part in encoder.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.1)
    x = torch.rand(1, 3, 64, 64)
    before = encoder(x)
    fold_norms(encoder)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in encoder.modules())
    torch.testing.assert_close(encoder(x), before, rtol=1e-3, atol=1e-3)
    fold_norms(encoder)  # a second time: nothing left to do
    torch.testing.assert_close(encoder(x), before, rtol=1e-3, atol=1e-3)


def test_conv_norm_is_convolution_then_batch_norm():
    block = randomised(ConvNorm(3, 4, 3, stride=2))
    x = torch.randn(2, 3, 9, 9)
    conv = nn.functional.conv2d(x, block.c.weight, stride=2, padding=1)
    bn = block.bn
    scale = (bn.weight / (bn.running_var + bn.eps).sqrt()).view(1, -1, 1, 1)
    expected = (conv - bn.running_mean.view(1, -1, 1, 1)) * scale + bn.bias.view(1, -1, 1, 1)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-4)


def test_there_are_twelve_blocks_of_the_stated_widths():
    encoder = TinyViT(SHAPES["light"])
    assert [len(stage.blocks) for stage in encoder.layers] == [2, 2, 6, 2]
    assert (
        sum(w * d for w, d in zip(SHAPES["light"].widths, SHAPES["light"].depths, strict=True))
        == 1984
    )
