"""atomic: the old file or the new one, never half of one, and no leavings."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samling import atomic
from samling.atomic import atomic_path, write_text


def test_the_file_appears_whole_and_parents_are_made(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "file.bin"
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"new")
        assert not target.exists()
        assert temporary.parent == target.parent, "a rename is atomic only within one file system"
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


def test_others_may_read_the_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "text")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_file_alone(tmp_path: Path, failure: type) -> None:
    target = tmp_path / "file"
    write_text(target, "old")
    with pytest.raises(failure), atomic_path(target) as temporary:
        temporary.write_text("half of the n")
        raise failure
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failure_leaves_nothing_where_nothing_was(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stop"), atomic_path(tmp_path / "file") as temporary:
        temporary.write_text("half")
        raise ValueError("stop")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("point", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    target = tmp_path / "file"
    write_text(target, "old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr(*((atomic.os, "fsync") if point == "fsync" else (Path, "replace")), full)
    with pytest.raises(OSError) as caught:
        write_text(target, "new")
    assert caught.value.errno == errno.ENOSPC
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_data_reach_the_disk_before_the_name_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut a renamed but unflushed file would be empty: the order is what protects."""
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(handle: int) -> None:
        is_folder = os.path.isdir(f"/dev/fd/{handle}")  # noqa: PTH112 - a descriptor, no path
        steps.append("folder" if is_folder else "file")
        fsync(handle)

    def note_replace(self: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(self, target)

    monkeypatch.setattr(atomic.os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    write_text(tmp_path / "file", "text")
    assert steps == ["file", "rename", "folder"]


@given(texts=st.lists(st.tuples(st.text(), st.booleans()), min_size=1, max_size=8))
def test_after_any_history_the_file_is_the_last_success(
    tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("history")
    target, expected = folder / "file", None
    for text, fails in texts:
        try:
            with atomic_path(target) as temporary:
                temporary.write_bytes(text.encode("utf-8", "surrogatepass"))
                if fails:
                    raise RuntimeError
            expected = text
        except RuntimeError:
            pass
    found = target.read_bytes().decode("utf-8", "surrogatepass") if target.exists() else None
    assert found == expected
    assert {p.name for p in folder.iterdir()} <= {"file"}


def test_two_writers_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    with atomic_path(target) as first, atomic_path(target) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert target.read_text() == "first", "the outer block ends last"
