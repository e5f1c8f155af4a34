"""Checkpoints: whole or refused; the lock of a run folder."""

import subprocess
import sys

import pytest
import torch

from samling.errors import InputError
from samling.training.checkpoint import locked, read_checkpoint, save_checkpoint

CONTENT = {"epoch": 3, "best": float("-inf"), "state": {"w": torch.arange(1000.0)}}


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "run" / "checkpoint.pt"
    assert read_checkpoint(path) is None
    save_checkpoint(path, CONTENT)
    read = read_checkpoint(path)
    assert torch.equal(read.pop("state")["w"], CONTENT["state"]["w"])
    assert read == {"epoch": 3, "best": float("-inf")}
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, CONTENT)
    before = path.read_bytes()
    with pytest.raises(Exception, match=r"pickle|local"):
        save_checkpoint(path, {"epoch": lambda: 4})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused_with_a_way_out(tmp_path, share):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, CONTENT)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=r"not a readable checkpoint.*delete it"):
        read_checkpoint(path)


def test_a_flipped_byte_in_the_weights_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, CONTENT)
    content = bytearray(path.read_bytes())
    position = content.find(torch.arange(1000.0).numpy().tobytes()) + 2001
    content[position] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a readable checkpoint"):
        read_checkpoint(path)


def test_a_second_writer_is_refused_and_the_lock_is_given_back(tmp_path):
    folder = tmp_path / "run"
    with (
        locked(folder),
        pytest.raises(InputError, match="another process is writing"),
        locked(folder),
    ):
        pass
    with locked(folder):
        pass


def test_the_lock_holds_between_processes_and_dies_with_its_process(tmp_path):
    code = (
        "import sys, time; from pathlib import Path\n"
        "from samling.training.checkpoint import locked\n"
        f"with locked(Path({str(tmp_path)!r})):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="another process"), locked(tmp_path):
            pass
    finally:
        holder.kill()
        holder.wait()
    with locked(tmp_path):
        pass


def test_what_a_killed_writer_left_is_cleared_away(tmp_path):
    leftovers = [tmp_path / ".checkpoint.pt.abc.part", tmp_path / "decoder" / ".best.pt.x.part"]
    leftovers[1].parent.mkdir()
    for path in leftovers:
        path.write_bytes(b"half")
    (tmp_path / "checkpoint.pt").write_bytes(b"whole")
    with locked(tmp_path):
        assert not any(path.exists() for path in leftovers)
    assert (tmp_path / "checkpoint.pt").read_bytes() == b"whole"
