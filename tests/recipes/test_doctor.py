import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from samling.cli import app
from samling.errors import InputError
from samling.inference.backend import Encoding
from samling.inference.card import Card
from samling.inference.segmenter import Segmenter
from samling.recipes import doctor as module
from samling.recipes.doctor import doctor

CARD = Card(name="i", base="b", base_sha256="0" * 64, embedding_size=16, prompts=("box",))


class Instant:
    def encode(self, plane):
        return Encoding(plane[None, None], None)

    def decode(self, encoding, coords, labels, masks=None):
        return np.zeros((len(coords), 64, 64), np.float32), np.zeros(len(coords), np.float32)


@pytest.fixture(autouse=True)
def instant(monkeypatch, tmp_path):
    monkeypatch.setattr("samling.recipes.load.load", lambda name: Segmenter(Instant(), CARD))
    monkeypatch.setenv("SAMLING_CACHE", str(tmp_path / "cache"))


def test_it_reports_machine_versions_weights_and_speed():
    text = str(doctor())
    for needed in ("processor", "GiB", "numpy", "[train]", "samling fetch litemedsam", "per image"):
        assert needed in text


@pytest.mark.parametrize(
    ("kind", "said"), [("bf16", "training uses it"), ("fp32", "training uses float32")]
)
def test_it_says_which_precision_training_takes_here(monkeypatch, kind, said):
    monkeypatch.setattr("samling.training.loop.best_precision", lambda device: kind)
    line = next(line for line in doctor().text().splitlines() if "bfloat16" in line)
    assert line.endswith(said)


def test_damaged_weights_are_called_damaged(tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "lite_medsam.pth").write_bytes(b"half a download")
    assert "DAMAGED" in doctor().text()


def test_a_damaged_installation_is_said_and_the_rest_still_examined(monkeypatch):
    def load(name):
        if name == "base-tiny":
            raise InputError("tiny/base.safetensors", "was altered", "install samling again")
        return Segmenter(Instant(), CARD)

    monkeypatch.setattr("samling.recipes.load.load", load)
    lines = doctor().text().splitlines()
    told = {line.split()[0]: line for line in lines if line.strip()}
    assert "in PyTorch" in told["base"]
    assert "DAMAGED: tiny/base.safetensors" in told["base-tiny"]


def test_missing_extras_are_named_with_the_command(monkeypatch):
    found = module.find_spec
    absent = ("torch", "transformers", "onnx")
    monkeypatch.setattr(module, "find_spec", lambda name: None if name in absent else found(name))
    monkeypatch.setattr(module, "_version", lambda name: None if name in absent else "1.0")
    text = doctor().text()
    assert "missing: torch, transformers (pip install '.[train]')" in text
    assert "missing: onnx (pip install '.[export]')" in text
    assert "not measured" in text


def test_a_data_set_is_checked_and_nothing_is_written(phantom_folder):
    before = sorted(phantom_folder.rglob("*"))
    report = doctor(phantom_folder)
    assert "20 cases" in report.data
    assert report.data in report.text()
    assert sorted(phantom_folder.rglob("*")) == before


def test_a_folder_without_images_is_an_input_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError):
        doctor(tmp_path / "empty")


def test_files_that_cannot_be_used_are_counted(phantom_folder, tmp_path):
    damaged = tmp_path / "data"
    shutil.copytree(phantom_folder, damaged)
    first = sorted((damaged / "images").iterdir())[0]
    first.write_bytes(b"not a picture")
    assert doctor(phantom_folder).errors == 0
    assert doctor(damaged).errors == 1
    assert CliRunner().invoke(app, ["doctor", str(damaged)]).exit_code == 1
