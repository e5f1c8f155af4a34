"""Bottleneck adapters against their equations in NumPy, and their sizes."""

import numpy as np
import pytest
import torch
from scipy.special import erf

from samling.adapters.bottleneck import LRAdapter, SerialAdapter

WIDTH, BOTTLENECK, RANK = 24, 6, 4


def gelu(x):
    return 0.5 * x * (1 + erf(x / 2**0.5))


def random_weights(adapter):
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    return {name: value.detach().double().numpy() for name, value in adapter.named_parameters()}


def test_serial_adapter_is_its_equation():
    adapter = SerialAdapter(WIDTH, BOTTLENECK)
    w = random_weights(adapter)
    x = torch.randn(5, 3, WIDTH)
    expected = gelu(x.double().numpy() @ w["down.weight"].T) @ w["up.weight"].T
    np.testing.assert_allclose(adapter(x).detach(), expected, rtol=1e-4, atol=1e-4)


def test_lr_adapter_is_equation_4():
    adapter = LRAdapter(WIDTH, BOTTLENECK, RANK)
    w = random_weights(adapter)
    x = torch.randn(5, WIDTH)
    down, up = w["u_down"] @ w["v_down"], w["u_up"] @ w["v_up"]
    assert down.shape == (BOTTLENECK, WIDTH)
    assert up.shape == (WIDTH, BOTTLENECK)
    assert np.linalg.matrix_rank(down) == np.linalg.matrix_rank(up) == RANK
    expected = gelu(x.double().numpy() @ down.T) @ up.T
    np.testing.assert_allclose(adapter(x).detach(), expected, rtol=1e-4, atol=1e-3)


def test_tied_adapter_goes_up_by_the_transposed_factors():
    adapter = LRAdapter(WIDTH, BOTTLENECK, RANK, tied=True)
    w = random_weights(adapter)
    x = torch.randn(5, WIDTH)
    down, up = w["u_down"] @ w["v_down"], w["v_down"].T @ w["u_down"].T
    expected = w["gate"] * gelu(x.double().numpy() @ down.T) @ up.T
    np.testing.assert_allclose(adapter(x).detach(), expected, rtol=1e-4, atol=1e-3)


MAKERS = {
    "serial": lambda: SerialAdapter(WIDTH, BOTTLENECK),
    "lr": lambda: LRAdapter(WIDTH, BOTTLENECK, RANK),
    "lr beyond r": lambda: LRAdapter(WIDTH, BOTTLENECK, 32),
    "tied": lambda: LRAdapter(WIDTH, BOTTLENECK, RANK, tied=True),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_new_adapter_gives_zeros_and_can_learn(make):
    adapter = make()
    optimizer = torch.optim.Adam(adapter.parameters(), lr=0.01)
    x, wanted = torch.randn(50, WIDTH), torch.randn(50, WIDTH)
    assert torch.count_nonzero(adapter(x)) == 0
    for _ in range(30):
        optimizer.zero_grad()
        loss = (adapter(x) - wanted).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.99 * wanted.square().mean()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in adapter.parameters())


@pytest.mark.parametrize(
    ("make", "count"),
    [
        ("serial", 2 * WIDTH * BOTTLENECK),
        ("lr", 2 * RANK * (WIDTH + BOTTLENECK)),
        ("lr beyond r", 2 * 32 * (WIDTH + BOTTLENECK)),
        ("tied", RANK * (WIDTH + BOTTLENECK) + 1),
    ],
)
def test_sizes(make, count):
    assert sum(p.numel() for p in MAKERS[make]().parameters()) == count
