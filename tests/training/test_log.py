"""What a run leaves behind: metrics.jsonl is never half a line, and is cut when resuming."""

import json

import pytest

from samling.training.log import MetricsLog, environment, read_metrics


def row(epoch):
    return {"epoch": epoch, "train": {"total": 1 / epoch}, "val": {"score": epoch / 10}}


def test_rows_are_lines_of_json(tmp_path):
    log = MetricsLog(tmp_path, 0)
    for epoch in (1, 2):
        log.add(row(epoch))
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == [row(e) for e in range(1, epoch + 1)]
    assert read_metrics(tmp_path / "metrics.jsonl") == log.rows


@pytest.mark.parametrize("done", [0, 1, 3])
def test_rows_beyond_the_checkpoint_are_cut(tmp_path, done):
    log = MetricsLog(tmp_path, 0)
    for epoch in (1, 2, 3):
        log.add(row(epoch))
    resumed = MetricsLog(tmp_path, done)
    assert [r["epoch"] for r in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3][:done]
    resumed.add(row(done + 1))
    assert [r["epoch"] for r in resumed.rows] == [1, 2, 3, 4][: done + 1]


def test_no_file_has_no_rows(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_tensorboard_holds_the_same_values(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    MetricsLog(tmp_path, 0).add(row(2))
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Tags()["scalars"] == ["train/total", "val/score"]
    [event] = events.Scalars("val/score")
    assert (event.step, round(event.value, 6)) == (2, 0.2)


def test_the_environment_names_versions_that_are_installed():
    import torch

    about = environment()
    installed = about["versions"]["torch"].split("+")[0]
    assert torch.__version__.split("+")[0] == installed
    assert about["python"].startswith("3.")
    json.dumps(about)
