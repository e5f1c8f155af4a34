import zipfile
from pathlib import Path

import pytest

from samling.errors import InputError
from samling.export.bundle import write_bundle
from samling.inference.bundle import Bundle, read_bundle


@pytest.fixture
def bundle(tiny_card):
    return Bundle(b"encoder", b"decoder", tiny_card)


@pytest.mark.parametrize("name", ["new/deep/b", "b.zip"])
def test_what_is_written_is_read_back(bundle, tmp_path, name):
    write_bundle(bundle, "# card", tmp_path / name)
    assert read_bundle(tmp_path / name) == bundle
    write_bundle(bundle._replace(encoder=b"newer"), "# card", tmp_path / name)
    assert read_bundle(tmp_path / name).encoder == b"newer"
    left = [path.name for path in (tmp_path / name).parent.iterdir()]
    assert left == [Path(name).name]


def test_the_same_bundle_gives_the_same_zip(bundle, tmp_path):
    for name in ("a.zip", "b.zip"):
        write_bundle(bundle, "#", tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert len(zipfile.ZipFile(tmp_path / "a.zip").namelist()) == 4


def test_nothing_else_is_overwritten(bundle, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("also mine")
    (tmp_path / "folder.zip").mkdir()
    for name in ("mine", "file", "folder.zip"):
        with pytest.raises(InputError):
            write_bundle(bundle, "#", tmp_path / name)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"
    assert (tmp_path / "file").read_text() == "also mine"


@pytest.mark.parametrize("name", ["b", "b.zip"])
def test_a_full_disk_leaves_the_earlier_bundle(bundle, tmp_path, monkeypatch, name):
    write_bundle(bundle, "#", tmp_path / name)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="No space left"):
        write_bundle(bundle._replace(encoder=b"newer"), "#", tmp_path / name)
    assert read_bundle(tmp_path / name) == bundle
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_failed_rename_leaves_the_earlier_bundle(bundle, tmp_path, monkeypatch):
    out = tmp_path / "b"
    write_bundle(bundle, "#", out)
    rename = Path.rename

    def fails_for_the_new_one(self, target):
        if self.suffix == ".part":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails_for_the_new_one)
    with pytest.raises(InputError):
        write_bundle(bundle._replace(encoder=b"newer"), "#", out)
    assert read_bundle(out) == bundle
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
