"""What every test gets: fixed seeds, one thread, the shared real data, a tiny store."""

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

# Before PyTorch is imported, and for the processes that tests start: sums depend on the number of
# threads, so fixtures of every scope must use the same. One, because busy machines make two spin.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

# Shared machines are slow at times: no deadline per example, and the same examples in every run.
settings.register_profile("samling", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("samling")


@pytest.fixture(autouse=True)
def fixed_seeds() -> Iterator[None]:
    """Seed every global generator, so that no test depends on the order of tests."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - on purpose the global one: libraries draw from it
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(0)
        torch.set_num_threads(1)
    yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real annotated images; the test is skipped where it is absent."""
    folder = Path(os.environ.get("SAMLING_DATA", ROOT / "../shared/data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found in {folder}; set SAMLING_DATA")
    return folder


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 20 phantom pictures (10 patients) in the `folder` layout. Read only."""
    from samling.data.phantom import write_phantom_set

    return write_phantom_set(tmp_path_factory.mktemp("phantom"), 20, size=(64, 80))


@pytest.fixture(scope="session")
def tiny_store(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 20 phantom pictures with all three splits. Read only."""
    from samling.recipes.prepare import prepare

    path = tmp_path_factory.mktemp("store") / "tiny.h5"
    prepare(phantom_folder, path, "folder", name="tiny")
    return path


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder as adapt leaves it, over the untrained base; it predicts nonsense."""
    from samling.adapters.injection import save_adapter
    from samling.config import AdapterSection
    from samling.recipes.build import load_base, trainee

    base, section = load_base("untrained"), AdapterSection()
    run = tmp_path_factory.mktemp("run")
    save_adapter(run / "adapter.safetensors", trainee(base.model, section).state())
    flags = {"train_decoder": False, "train_encoder": False}
    changes = {
        "name": "tiny",
        "prompts": ("box", "points", "automatic"),
        "adapter": section.model_dump(mode="json") | flags,
    }
    base.card.model_copy(update=changes).save(run / "adapter.json")
    return run
