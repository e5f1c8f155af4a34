"""A store so small that a test can train on it."""

from pathlib import Path

import pytest


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
