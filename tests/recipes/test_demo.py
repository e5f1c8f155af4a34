"""demo: the chain runs whole, in small, and does nothing twice."""

import json
from pathlib import Path

import numpy as np
import pytest

from samling.errors import InputError
from samling.recipes.demo import Plan, demo

TINY = Plan(
    pictures=16,
    size_px=(48, 64),
    unseen=1,
    recipe="lg-medseg",
    overrides=("training.epochs=1", "training.batch_size=8"),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A tiny demonstration and what it said; without any downloaded weights."""
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAMLING_CACHE", str(tmp_path_factory.mktemp("cache")))
        out = tmp_path_factory.mktemp("demo") / "out"
        demo(out, TINY, report=lines.append)
    return out, lines


def test_every_step_leaves_its_product(finished: tuple[Path, list[str]]) -> None:
    out, _ = finished
    assert (out / "phantoms.h5").is_file()
    assert (out / "run" / "adapter.safetensors").is_file()
    assert (out / "evaluation" / "results.csv").is_file()
    assert (out / "bundle" / "encoder.onnx").is_file()
    assert len(list((out / "predictions" / "box").glob("*_overlay.png"))) == 2


def test_the_page_stands_alone_and_shows_pictures(finished: tuple[Path, list[str]]) -> None:
    page = (finished[0] / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") >= 4
    assert "http://" not in page.replace("http://www.w3.org", "")
    for text in ("What to do next", "samling prepare", "tight box"):
        assert text in page


def test_every_step_says_how_long_it_took(finished: tuple[Path, list[str]]) -> None:
    out, lines = finished
    seconds = json.loads((out / "steps.json").read_text(encoding="utf-8"))["seconds"]
    assert list(seconds) == ["draw", "prepare", "adapt", "evaluate", "export", "predict"]
    for number, name in enumerate(seconds, start=1):
        assert f"[{number}/6] {name}: {seconds[name]:.1f} s" in lines


def test_a_second_run_repeats_nothing(finished: tuple[Path, list[str]]) -> None:
    out, _ = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    lines: list[str] = []
    demo(out, TINY, report=lines.append)
    assert sum("done before" in line for line in lines) == 6
    changed = {path.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed <= {"report.html"}


def test_another_demonstration_is_not_overwritten(finished: tuple[Path, list[str]]) -> None:
    with pytest.raises(InputError, match="other settings"):
        demo(finished[0], Plan(pictures=18), report=lambda _: None)


def test_a_picture_where_nothing_was_found_is_captioned_so(tmp_path):
    from samling.inference.results import ResultFolder
    from samling.recipes.demo_report import _found

    results = ResultFolder(tmp_path / "predictions" / "automatic")
    results.add(Path("dark.png"), np.zeros((20, 30)), [])
    results.write_table()
    _, captions = _found(tmp_path, "automatic")
    assert captions.items == ("dark: nothing found",)
