"""Real weights and reference values, where they are on this machine."""

from pathlib import Path

import numpy as np
import pytest
import torch

from samling.errors import InputError
from samling.models.weights import StateDict, read_state


@pytest.fixture(scope="session")
def litemedsam_weights() -> StateDict:
    """LiteMedSAM's checkpoint as published; the test is skipped where it was not fetched."""
    from samling.cache import weights_path

    try:
        return read_state(weights_path("litemedsam"))
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def reference(shared_data: Path) -> dict[str, torch.Tensor]:
    """Outputs of the original LiteMedSAM; the test is skipped where they are absent."""
    path = shared_data.parent / "reference" / "litemedsam.npz"
    if not path.is_file():
        pytest.skip(f"reference values not found in {path}")
    with np.load(path) as values:
        return {name: torch.from_numpy(values[name]) for name in values.files}
