import importlib.util

import pytest

from samling.errors import InputError
from samling.recipes.load import load


def test_what_is_no_model_is_refused(tmp_path):
    (tmp_path / "picture.png").write_bytes(b"x")
    (tmp_path / "broken.zip").write_bytes(b"x")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "encoder.onnx").write_bytes(b"x")
    for name in ("picture.png", "broken.zip", "half"):
        with pytest.raises(InputError, match=name):
            load(tmp_path / name)


def test_an_unknown_name_is_refused_with_the_known_ones():
    """Without PyTorch too; the families are one group."""
    with pytest.raises(InputError, match=r"base-zoom, .*litemedsam.*sam-vit-b/l/h, medsam, ") as e:
        load("nonsense")
    assert "did you mean" not in str(e.value)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("litmedsam", "litemedsam"), ("mobilsam@512", "mobilesam"), ("base_zoom", "base-zoom")],
)
def test_the_nearest_name_is_suggested(name, nearest):
    with pytest.raises(InputError, match=f"did you mean {nearest}\\?"):
        load(name)


def test_a_family_without_a_file_is_told_what_belongs_there():
    with pytest.raises(InputError, match=r"no file.*medsam:medsam_vit_b\.pth"):
        load("medsam:")


def test_without_pytorch_it_says_what_to_install(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torch" else found(name)
    )
    with pytest.raises(InputError, match=r"pip install '\.\[train\]'"):
        load("litemedsam")


def test_a_named_base_predicts():
    pytest.importorskip("transformers", reason="needs samling[train]")
    segmenter = load("untrained")
    assert segmenter.card.name == "untrained"
    assert segmenter.card.input_size == 256
