"""The command line: every verb explains itself, and bad input is one line and exit code 2."""

import errno
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samling import cli
from samling.errors import InputError
from samling.inference.card import Card

VERBS = [
    "doctor", "prepare", "recipes", "adapt", "distill", "evaluate", "compare", "train", "crossval",
    "calibrate", "reproduce", "export", "predict", "fetch", "demo", "archive", "cine",
]  # fmt: skip
MODEL = "untrained"


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def samling(capfd: pytest.CaptureFixture[str]):
    """Run a command in this process and return how it ended."""

    def run(*arguments: object) -> Ended:
        with pytest.raises(SystemExit) as end:
            cli.main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        code = end.value.code
        return Ended(code if isinstance(code, int) else 1, out, err)

    return run


def assert_refused(ended: Ended, *expected: str) -> None:
    """Exit code 2, exactly one error line that holds all of `expected`, no traceback."""
    errors = [line for line in ended.err.splitlines() if line.startswith("error:")]
    assert ended.code == 2, ended
    assert len(errors) == 1, ended.err
    assert "Traceback" not in ended.err + ended.out
    assert "Remedy: " in errors[0]
    for text in expected:
        assert text in errors[0]


def png(path: Path, shape: tuple[int, int] = (48, 64), value: int = 0) -> Path:
    """Write a grey picture with a bright square, or of one value."""
    pixels = np.full(shape, value, np.uint8)
    if not value:
        pixels[10:30, 12:40] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def truncated(path: Path) -> Path:
    rng = np.random.default_rng(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 255, (48, 64), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:700])
    return path


def text_file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("I am no picture.\n")
    return path


def dicom_without_pixels(path: Path) -> Path:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UltrasoundImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID = UltrasoundImageStorage, "1.2.3"
    dataset.PatientID = "p"
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


BROKEN = {
    "truncated.png": truncated,
    "text.png": text_file,
    "nopixels.dcm": dicom_without_pixels,
}


# --- every verb explains itself ---------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_a_paragraph_and_an_example(samling, verb: str) -> None:
    ended = samling(verb, "--help")
    assert ended.code == 0
    assert f"Example: samling {verb}" in ended.out


@pytest.mark.parametrize("verb", ["predict", "evaluate", "cine", "archive", "export", "adapt"])
def test_help_says_what_a_model_may_be(samling, verb: str) -> None:
    said = " ".join(samling(verb, "--help").out.split()).replace("- ", "-")
    assert "base, base-tiny, base-zoom, litemedsam, a checkpoint of the SAM family" in said


def test_help_lists_exactly_the_verbs_that_work(samling) -> None:
    ended = samling("--help")
    listed = ended.out.partition("Commands:")[2].split("\n")
    assert [line.split()[0] for line in listed if line.strip()] == VERBS
    assert "Exit codes" in ended.out


def test_no_arguments_show_the_help(samling) -> None:
    assert samling().out == samling("--help").out


def test_version(samling) -> None:
    assert samling("--version").out.startswith("samling ")


def test_the_installed_command_runs_in_its_own_process() -> None:
    command = [sys.executable, "-m", "samling.cli", "predict", "--nonsense"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert_refused(Ended(done.returncode, done.stdout, done.stderr), "--nonsense")


# --- wrong use --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["predct"], "predict"),
        (["predict", MODEL], "INPUT"),
        (["prepare", "data"], "--out"),
        (["adapt", "lg-medseg", "--out", "x"], "--data"),
        (["predict", MODEL, "a.png", "-o", "out", "--box", "1,2,3"], "--box"),
        (["predict", MODEL, "a.png", "-o", "out", "--box", "a,b,c,d"], "4 numbers"),
        (["predict", MODEL, "a.png", "-o", "out", "--point", "1"], "--point"),
    ],
)
def test_wrong_use_is_one_line(samling, arguments: list[str], expected: str) -> None:
    assert_refused(samling(*arguments), expected)


def test_stores_and_overrides_may_follow_in_any_order() -> None:
    rest = ["b.h5", "training.epochs=2", "c d.h5", "name=x=y"]
    assert cli.split_rest(rest) == (
        [Path("b.h5"), Path("c d.h5")],
        ["training.epochs=2", "name=x=y"],
    )


# --- what an error becomes --------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_explained(code: int) -> None:
    text = cli.explain(OSError(code, os.strerror(code), "x.h5"))
    assert text is not None
    assert "x.h5" in text
    assert "disk is full" in text


def test_a_full_disk_reported_by_a_library_is_recognised() -> None:
    text = cli.explain(
        OSError("Can't write (errno = 28, error message = 'No space left on device')")
    )
    assert text is not None
    assert "disk is full" in text


def test_a_missing_extra_names_what_to_install() -> None:
    text = cli.explain(ModuleNotFoundError("No module named 'torch'", name="torch.nn"))
    assert text is not None
    assert "pip install '.[train]'" in text
    text = cli.explain(ModuleNotFoundError("No module named 'onnx'", name="onnx"))
    assert text is not None
    assert "samling[export]" in text


@pytest.mark.parametrize("fault", [ValueError("ours"), ModuleNotFoundError("x", name="nonsense")])
def test_a_fault_of_ours_is_not_disguised(fault: Exception) -> None:
    assert cli.explain(fault) is None


def test_a_message_of_several_lines_becomes_one(samling, monkeypatch) -> None:
    def broken(_: str) -> None:
        raise InputError("x", "first\nsecond", "mend\nit")

    monkeypatch.setattr("samling.recipes.fetch.fetch", broken)
    assert_refused(samling("fetch", "x"), "first second")


def test_an_interruption_says_how_to_go_on(samling, monkeypatch) -> None:
    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("samling.recipes.fetch.fetch", interrupted)
    ended = samling("fetch", "x")
    assert ended.code == 130
    assert ended.err.strip() == "stopped; run the same command again to resume"


# --- bad input: prepare and doctor ------------------------------------------------------------


@pytest.mark.parametrize("verb", ["prepare", "doctor"])
def test_missing_data(samling, tmp_path: Path, verb: str) -> None:
    out = ["-o", tmp_path / "s.h5"] if verb == "prepare" else []
    assert_refused(samling(verb, tmp_path / "nowhere", *out), "nowhere")


@pytest.mark.parametrize("verb", ["prepare", "doctor"])
def test_an_empty_data_folder(samling, tmp_path: Path, verb: str) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    out = ["-o", tmp_path / "s.h5"] if verb == "prepare" else []
    assert_refused(samling(verb, empty, *out), "empty")
    assert not (tmp_path / "s.h5").exists()


@pytest.mark.parametrize("name", BROKEN)
def test_data_of_which_nothing_is_usable(samling, tmp_path: Path, name: str) -> None:
    BROKEN[name](tmp_path / "d" / "images" / name)
    png(tmp_path / "d" / "masks" / f"{Path(name).stem}.png")
    assert_refused(samling("prepare", tmp_path / "d", "-o", tmp_path / "s.h5"), name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d"], "nothing half-written stays"


def test_a_mask_of_another_size(samling, tmp_path: Path) -> None:
    png(tmp_path / "d" / "images" / "a.png", (48, 64))
    png(tmp_path / "d" / "masks" / "a.png", (48, 65))
    assert_refused(samling("prepare", tmp_path / "d", "-o", tmp_path / "s.h5"), "a.png")


def test_some_bad_images_are_listed_and_the_others_stored(
    samling, tmp_path: Path, phantom_folder: Path
) -> None:
    shutil.copytree(phantom_folder, tmp_path / "d")
    first = min((tmp_path / "d" / "images").iterdir())
    text_file(first)
    ended = samling("prepare", tmp_path / "d", "-o", tmp_path / "s.h5")
    assert ended.code == 1
    assert first.name in ended.out
    assert (tmp_path / "s.h5").exists()


def test_a_full_disk_leaves_nothing_half_written(
    samling, tmp_path: Path, phantom_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("samling.atomic.os.fsync", full)
    ended = samling("prepare", phantom_folder, "-o", tmp_path / "s.h5")
    assert_refused(ended)
    assert "space" in ended.err
    assert list(tmp_path.iterdir()) == []


# --- bad input: stores ------------------------------------------------------------------------


def commands_on(store: Path, out: Path) -> list[list[object]]:
    return [
        ["evaluate", MODEL, "--data", store, "-o", out],
        ["adapt", "lg-medseg", "--data", store, "--out", out, "--base", MODEL],
    ]


@pytest.mark.parametrize("which", [0, 1])
def test_a_missing_store(samling, tmp_path: Path, which: int) -> None:
    command = commands_on(tmp_path / "no.h5", tmp_path / "out")[which]
    assert_refused(samling(*command), "no.h5")


@pytest.mark.parametrize("which", [0, 1])
def test_a_store_of_a_newer_schema(samling, tmp_path: Path, tiny_store: Path, which: int) -> None:
    import h5py

    store = shutil.copy(tiny_store, tmp_path / "new.h5")
    with h5py.File(store, "r+") as file:
        file.attrs["schema"] = 99
    assert_refused(samling(*commands_on(store, tmp_path / "out")[which]), "new.h5", "99")


def test_a_truncated_store(samling, tmp_path: Path, tiny_store: Path) -> None:
    store = tmp_path / "cut.h5"
    store.write_bytes(tiny_store.read_bytes()[:2000])
    assert_refused(samling(*commands_on(store, tmp_path / "out")[0]), "cut.h5")


def test_an_unknown_split(samling, tmp_path: Path, tiny_store: Path) -> None:
    command = commands_on(tiny_store, tmp_path / "out")[0]
    assert_refused(samling(*command, "--split", "everything"), "everything")


def test_an_unknown_recipe(samling, tmp_path: Path, tiny_store: Path) -> None:
    assert_refused(
        samling("adapt", "nonsense", "--data", tiny_store, "--out", tmp_path), "nonsense"
    )


def test_plans_that_are_none(samling, tmp_path: Path, tiny_store: Path) -> None:
    plan = tmp_path / "plan.yaml"
    assert_refused(samling("compare", plan, "-o", tmp_path / "out"), "plan.yaml", "does not exist")
    plan.write_text(f"{{name: a, stores: {{a: {tiny_store}}}, method: {{b: base}}}}")
    assert_refused(samling("compare", plan, "-o", tmp_path / "out"), "method", "methods")
    plan.write_text("{name: a, stores: {a: no.h5}}")
    assert_refused(samling("compare", plan, "-o", tmp_path / "out"), "no.h5")


def test_a_comparison_that_lacks_a_model_goes_on(samling, tmp_path: Path, tiny_store: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        f"{{name: a, stores: {{tiny: {tiny_store}}}, methods: {{gone: runs/gone}}, prompts: [box]}}"
    )
    ended = samling("compare", plan, "-o", tmp_path / "out")
    assert ended.code == 1
    assert "not measured: gone on tiny" in ended.out
    assert "report.html" in ended.out and (tmp_path / "out" / "report.html").is_file()


# --- bad input: predict -----------------------------------------------------------------------


@pytest.mark.parametrize("name", BROKEN)
def test_an_image_that_cannot_be_read(samling, tmp_path: Path, tiny_run: Path, name: str) -> None:
    file = BROKEN[name](tmp_path / name)
    assert_refused(samling("predict", tiny_run, file, "-o", tmp_path / "out"), name)


def test_a_missing_image(samling, tmp_path: Path, tiny_run: Path) -> None:
    assert_refused(
        samling("predict", tiny_run, tmp_path / "no.png", "-o", tmp_path / "out"), "no.png"
    )


def test_an_empty_image_folder(samling, tmp_path: Path, tiny_run: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_refused(
        samling("predict", tiny_run, tmp_path / "empty", "-o", tmp_path / "out"), "empty"
    )


def test_some_bad_images_do_not_stop_the_others(samling, tmp_path: Path, tiny_run: Path) -> None:
    good, bad = png(tmp_path / "in" / "good.png"), truncated(tmp_path / "in" / "bad.png")
    ended = samling("predict", tiny_run, good.parent, "-o", tmp_path / "out")
    assert ended.code == 1
    assert bad.name in ended.out + ended.err
    assert (tmp_path / "out" / "good.png").exists()


def test_prompts_that_are_no_json(samling, tmp_path: Path, tiny_run: Path) -> None:
    image, prompts = png(tmp_path / "a.png"), text_file(tmp_path / "p.json")
    ended = samling("predict", tiny_run, image, "-o", tmp_path / "out", "--prompts", prompts)
    assert_refused(ended, "p.json")


def test_an_unknown_model(samling, tmp_path: Path) -> None:
    image = png(tmp_path / "a.png")
    assert_refused(samling("predict", "nonsense", image, "-o", tmp_path / "out"), "nonsense")


def test_an_adapter_for_another_base(samling, tmp_path: Path) -> None:
    run, image = tmp_path / "run", png(tmp_path / "a.png")
    run.mkdir()
    (run / "adapter.safetensors").write_bytes(b"")
    Card(
        name="x",
        base="untrained",
        base_sha256="f" * 64,
        embedding_size=16,
        prompts=("box",),
        adapter={"kind": "lr", "train_decoder": False, "train_encoder": False},
    ).save(run / "adapter.json")
    assert_refused(samling("predict", run, image, "-o", tmp_path / "out"), "untrained", "f" * 12)
