import pytest

from samling.errors import InputError
from samling.recipes.export import export


def test_wrong_use_is_refused_before_any_work(tmp_path):
    with pytest.raises(InputError, match="'coreml' is not offered"):
        export("untrained", tmp_path / "out", "coreml")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "encoder.onnx").write_bytes(b"x")
    with pytest.raises(InputError, match="is a bundle already"):
        export(str(tmp_path / "bundle"), tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        export("untrained", tmp_path / "mine")


def test_a_base_without_prompts_must_be_adapted_first(tmp_path):
    pytest.importorskip("transformers", reason="needs samling[train]")
    with pytest.raises(InputError, match="adapt it first"):
        export("untrained", tmp_path / "out")
    assert not (tmp_path / "out").exists()
