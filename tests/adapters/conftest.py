"""A light model at 64 px, with weights that are not at their special initial values."""

import copy

import pytest
import torch

from samling.models.sam import Sam


@pytest.fixture(scope="session")
def pristine_sam() -> Sam:
    """Not to be changed. Its decoder, where no adapter goes, is left out."""
    torch.manual_seed(7)
    model = Sam("light", 64)
    for name, parameter in model.named_parameters():
        if name.endswith("attention_biases"):
            torch.nn.init.normal_(parameter)
    del model.mask_decoder
    return model.eval().requires_grad_(False)


@pytest.fixture
def small_sam(pristine_sam: Sam) -> Sam:
    """A model of the test's own."""
    return copy.deepcopy(pristine_sam)


@pytest.fixture(scope="session")
def images() -> torch.Tensor:
    """(1, 1, 64, 64) in [0, 1]."""
    return torch.rand((1, 1, 64, 64), generator=torch.Generator().manual_seed(1))
