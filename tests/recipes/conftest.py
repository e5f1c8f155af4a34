"""What tests of recipes share: a store so small that they can train on it, a teacher, a cache, plans."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture(scope="session")
def small_store(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five training, two validation and one test case; each part but the last has an empty label."""
    from samling.data.splits import Splits
    from samling.data.store import Store, write_store

    store = Store.open(tiny_store)
    cases = [store.case(case_id) for case_id in store.ids]
    empty = [case for case in cases if not case.labels.any()]
    full = [case for case in cases if case.labels.any()]
    parts = {"train": [*full[:4], empty[0]], "val": [full[4], empty[1]], "test": full[5:6]}
    path = tmp_path_factory.mktemp("small") / "small.h5"
    write_store(
        path,
        [case for part in parts.values() for case in part],
        Splits.of({name: [case.id for case in part] for name, part in parts.items()}, "by hand"),
        name="small",
        classes=("lesion",),
        licence="CC0",
    )
    return path


@pytest.fixture(scope="module")
def teacher(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An adapted run that differs from its base."""
    import torch
    from safetensors.torch import load_file, save_file

    run = Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("teacher") / "run"))
    state = load_file(run / "adapter.safetensors")
    generator = torch.Generator().manual_seed(0)
    for name, value in state.items():
        if name.startswith("adapter."):
            state[name] = value + 0.1 * torch.randn(value.shape, generator=generator)
    save_file(state, run / "adapter.safetensors")
    return str(run)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of a module's own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAMLING_CACHE", str(folder))
        yield folder


@pytest.fixture
def write_plan(tmp_path: Path, tiny_store: Path) -> Callable[..., Path]:
    """Write a plan of compare with these settings over the tiny store and return its path."""

    def plan(**settings: object) -> Path:
        content = {"stores": {"tiny": str(tiny_store)}, "prompts": ["box", "jitter10"]} | settings
        path = tmp_path / "plan.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return path

    return plan


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder for results that is not there yet."""
    return tmp_path / "out"


@pytest.fixture(scope="session")
def watching() -> Callable[[], AbstractContextManager[list[Any]]]:
    """A context that lists the models which `adapt` trains inside, as they are at its end."""
    from samling.recipes import adapt as module

    @contextmanager
    def recording() -> Iterator[list[Any]]:
        original, seen = module.trainee, []

        def trainee(*arguments, **settings):
            seen.append(original(*arguments, **settings))
            return seen[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "trainee", trainee)
            yield seen

    return recording
