"""Curves from metrics.jsonl."""

import json
from pathlib import Path

import cv2
import pytest

from samling.errors import InputError

pytest.importorskip("matplotlib")
from samling.evaluation.curves import draw_curves


def metrics(path: Path, epochs: int, **changes) -> Path:
    lines = [
        {
            "epoch": e,
            "step": 35 * e,
            "train": {"total": 2 / e, "focal": 1 / e, "dice": 0.5 / e},
            "val": {"box": 1 - 0.3 / e, "auto": 0.7 - 0.3 / e, "score": 0.8 - 0.3 / e},
        }
        | changes
        for e in range(1, epochs + 1)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("epochs", [1, 15])
def test_a_picture_is_drawn(tmp_path: Path, epochs: int) -> None:
    path = draw_curves(metrics(tmp_path / "metrics.jsonl", epochs), tmp_path / "curves.png")
    assert path is not None
    picture = cv2.imread(str(path))
    assert picture.shape[1] > 2 * picture.shape[0]
    assert picture.std() > 5


def test_terms_that_are_zero_or_missing(tmp_path: Path) -> None:
    path = metrics(tmp_path / "metrics.jsonl", 3, train={"total": 0.0}, val={})
    assert draw_curves(path, tmp_path / "curves.png") is not None


def test_before_the_first_epoch_there_is_none(tmp_path: Path) -> None:
    assert draw_curves(metrics(tmp_path / "m.jsonl", 0), tmp_path / "curves.png") is None
    assert not (tmp_path / "curves.png").exists()


@pytest.mark.parametrize("text", ["{", "[1]\n", '{"step": 1}\n', "3\n"])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.jsonl").write_text(text)
    with pytest.raises(InputError, match="m.jsonl"):
        draw_curves(tmp_path / "m.jsonl", tmp_path / "curves.png")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        draw_curves(tmp_path / "m.jsonl", tmp_path / "curves.png")
