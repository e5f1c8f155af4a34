"""Members of folders and zips: zips inside, names that point outside, damage."""

import io
import zipfile
from pathlib import Path

import pytest

from samling.data.readers.members import members_of
from samling.errors import InputError


def zipped(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def test_zips_inside_are_folders(tmp_path: Path) -> None:
    masks = zipped({"MASKS_DICOM/liver/image_0": b"m", "__MACOSX/x": b"-", "MASKS_DICOM/.y": b"-"})
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "MASKS_DICOM.zip").write_bytes(masks)
    (tmp_path / "p" / ".hidden").write_bytes(b"-")
    outer = tmp_path / "all.zip"
    outer.write_bytes(zipped({"p/MASKS_DICOM.zip": masks, "p/PATIENT_DICOM/image_0": b"i"}))
    assert [m.name for m in members_of(tmp_path / "p")] == ["MASKS_DICOM/liver/image_0"]
    found = {m.name: m.read() for m in members_of(outer)}
    assert found == {"p/MASKS_DICOM/liver/image_0": b"m", "p/PATIENT_DICOM/image_0": b"i"}


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a\\..\\x"])
def test_a_name_that_leaves_the_zip_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zipped({name: b"x"}))
    with pytest.raises(InputError, match="points outside"):
        members_of(path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


def test_damage_and_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.zip"
    content = bytearray(zipped({"image_0": bytes(range(256)) * 40}))
    content[60] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"image_0.*(damaged|unpacked)"):
        members_of(path)[0].read()
    monkeypatch.setattr("samling.data.readers.members.MAX_MEMBER_BYTES", 100)
    path.write_bytes(zipped({"image_0": bytes(101)}))
    with pytest.raises(InputError, match="at most"):
        members_of(path)[0].read()
    path.write_bytes(b"PK no zip")
    with pytest.raises(InputError, match="no folder and no zip"):
        members_of(path)
    with pytest.raises(InputError, match="does not exist"):
        members_of(tmp_path / "b")
