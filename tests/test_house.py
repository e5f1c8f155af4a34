"""The house rules that no linter checks: light imports, docstrings, edge rooms without PyTorch."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import samling

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "samling"
MODULES = sorted(SOURCE.rglob("*.py"))
HEAVY = {"torch", "transformers", "cv2", "onnxruntime", "scipy", "h5py", "monai", "matplotlib"}
TRAIN_ONLY = ["torch", "transformers", "h5py", "safetensors", "tensorboard", "matplotlib", "onnx"]
VOLUMES_ONLY = ["nibabel", "SimpleITK", "highdicom"]
FOR_TRAINING = {
    "samling.data.augment",
    "samling.data.batches",
    "samling.data.blobs",
    "samling.data.nothing",
    "samling.data.store",
    "samling.inference.torch_backend",
}
# Assembled from pieces so that this file does not contain what it looks for.
FORBIDDEN = [re.compile("/" + "work/"), re.compile("/" + "root/"), re.compile("/home" + r"/\w")]

TEXT_SUFFIXES = {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".txt", ".html", ""}


def python(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_after(code: str) -> set[str]:
    """Names of the top-level modules in memory after the code ran."""
    listing = python(f"{code}\nimport sys, json\nprint(json.dumps(list(sys.modules)))")
    return {name.partition(".")[0] for name in json.loads(listing.splitlines()[-1])}


def test_import_samling_is_light() -> None:
    modules = loaded_after("import samling")
    assert not modules & (HEAVY | {"numpy", "typer", "rich", "pydantic"})


def test_help_is_light() -> None:
    code = (
        "import sys\nfrom samling import cli\n"
        "try: cli.main(['--help'])\nexcept SystemExit as end: assert end.code == 0"
    )
    assert not loaded_after(code) & HEAVY


def test_load_is_offered_and_unknown_names_are_not() -> None:
    assert samling.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="nonsense"):
        _ = samling.nonsense


def edge_modules() -> list[str]:
    """Modules of the rooms that an installation without extras uses."""
    rooms = ("prompts", "inference", "data")
    files = [file for file in MODULES if file.relative_to(SOURCE).parts[0] in rooms]
    files.append(SOURCE / "cli.py")
    names = [file.relative_to(SOURCE.parent).with_suffix("") for file in files]
    dotted = {".".join(name.parts).removesuffix(".__init__") for name in names}
    return sorted(dotted - FOR_TRAINING)


def test_edge_rooms_import_without_the_train_extra() -> None:
    block = (
        "import sys, importlib\n"
        f"for name in {TRAIN_ONLY + VOLUMES_ONLY}: sys.modules[name] = None\n"  # None makes the import fail
        f"for name in {edge_modules()}: importlib.import_module(name)\n"
    )
    python(block)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_every_module_says_what_it_is(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring, f"{path} has no docstring"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_module_names_say_a_subject(path: Path) -> None:
    assert path.stem not in ("utils", "util", "helpers", "helper", "common", "misc")


def test_no_private_path_is_published() -> None:
    folders = [ROOT / name for name in ("src", "tests", "docs", "scripts", ".ci")]
    files = [f for folder in folders for f in folder.rglob("*") if f.suffix in TEXT_SUFFIXES]
    files += [f for f in ROOT.iterdir() if f.suffix in TEXT_SUFFIXES]
    hits = [
        f"{file.relative_to(ROOT)}: {pattern.pattern}"
        for file in files
        if file.is_file()
        for pattern in FORBIDDEN
        if pattern.search(file.read_text(encoding="utf-8", errors="replace"))
    ]
    assert not hits


def test_core_dependencies_bring_no_pytorch() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = {re.split(r"[<>=~\[ ]", d)[0] for d in project["dependencies"]}
    assert not core & {"torch", "transformers", "monai", "h5py", "timm", "torchvision"}
    everything = " ".join(sum(project["optional-dependencies"].values(), project["dependencies"]))
    assert "torchvision" not in everything
    assert "timm" not in everything


def test_every_source_module_is_found_by_the_size_alarm(tmp_path: Path) -> None:
    (tmp_path / "long.py").write_text("def f():\n" + "    pass\n" * 50 + "x = 1\n" * 400)
    script = [sys.executable, str(ROOT / "scripts" / "check_size.py"), str(tmp_path)]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 1
    assert "f() has 51 lines" in done.stdout
    assert "file has 451 lines" in done.stdout
