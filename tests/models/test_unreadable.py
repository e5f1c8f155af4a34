"""Files that are no checkpoint say what they are; nobody is told to load them without the check."""

import argparse
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from samling.errors import InputError
from samling.models.weights import read_state

WEIGHTS = {"weight": torch.arange(1000.0)}


def zipped(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes/a.txt", "x")


def program(path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda p: p.write_text("\n <!DOCTYPE html>\n<html>"), "begins with '<!DOCTYPE html>'"),
        (lambda p: p.write_text("\ufeff<html lang='de'>Ü"), "begins with '<html lang='de'>Ü'"),
        (lambda p: p.write_text("version https://git-lfs.x/v1\noid 1"), "begins with 'version"),
        (
            lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99)),
            "begins with the bytes 89 50 4e",
        ),
        (zipped, "is a zip, but no checkpoint"),
        (program, "is a TorchScript program"),
        (
            lambda p: torch.save({"model": WEIGHTS, "args": argparse.Namespace(lr=1)}, p),
            r"holds more than weights \(argparse\.Namespace\)",
        ),
        (lambda p: p.write_bytes(pickle.dumps({"a": argparse.Namespace()})), "more than weights"),
    ],
)
def test_what_is_no_checkpoint_says_what_it_is(write, said, tmp_path):
    path = tmp_path / "w.pth"
    write(path)
    with pytest.raises(InputError, match=said) as error:
        read_state(path)
    for advice in ("weights_only", "torch.load", "trust", "safe_globals"):
        assert advice not in str(error.value)


@pytest.mark.parametrize("form", ["zip", "pickle", "safetensors"])
def test_what_ends_early_is_called_cut_short_wherever_it_ends(form, tmp_path):
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        save_file(WEIGHTS, path)
    else:
        torch.save(WEIGHTS, path, _use_new_zipfile_serialization=form == "zip")
    whole = path.read_bytes()
    assert read_state(path)["weight"].shape == (1000,)
    for size in (0, 5, 20, 1500, len(whole) - 10):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=f"is cut short: it has {size} bytes\\. "):
            read_state(path)
