import zipfile

import pytest

from samling.errors import InputError
from samling.inference.bundle import (
    CARD,
    DECODER,
    ENCODER,
    OPENVINO_ENCODER,
    OPENVINO_WEIGHTS,
    is_bundle,
    read_bundle,
)
from samling.inference.card import Card


@pytest.fixture
def parts(make_card):
    card = make_card().model_dump_json().encode()
    return {ENCODER: b"encoder bytes", DECODER: b"decoder bytes", CARD: card, "README.md": b"#"}


def write_zip(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def write_folder(path, parts):
    path.mkdir()
    for name, content in parts.items():
        (path / name).write_bytes(content)
    return path


def test_folder_and_zip_hold_the_same(tmp_path, parts):
    folder = write_folder(tmp_path / "b", parts)
    flat = write_zip(tmp_path / "b.zip", parts.items())
    nested = write_zip(tmp_path / "c.zip", [(f"b/{name}", part) for name, part in parts.items()])
    assert all(is_bundle(path) for path in (folder, flat, nested))
    assert read_bundle(folder) == read_bundle(flat) == read_bundle(nested)
    assert read_bundle(flat).encoder == b"encoder bytes"


def test_an_encoder_in_openvinos_form_has_its_weights_beside_it(tmp_path, parts):
    del parts[ENCODER]
    parts |= {OPENVINO_ENCODER: b"<net/>", OPENVINO_WEIGHTS: b"weights"}
    folder = write_folder(tmp_path / "b", parts)
    found = read_bundle(write_zip(tmp_path / "b.zip", parts.items()))
    assert is_bundle(folder)
    assert read_bundle(folder) == found
    assert (found.encoder, found.weights) == (b"<net/>", b"weights")
    (folder / OPENVINO_WEIGHTS).write_bytes(b"")
    with pytest.raises(InputError, match=r"an empty encoder\.bin"):
        read_bundle(folder)
    (folder / OPENVINO_WEIGHTS).unlink()
    with pytest.raises(InputError, match=r"encoder\.bin is missing"):
        read_bundle(folder)


def test_strangers_in_a_zip_are_not_read_nor_extracted(tmp_path, parts):
    members = [*parts.items(), ("__MACOSX/._card.json", b"x"), ("evil.py", b"x"), ("d/", b"")]
    read_bundle(write_zip(tmp_path / "b.zip", members))
    assert [path.name for path in tmp_path.iterdir()] == ["b.zip"]


@pytest.mark.parametrize(
    "name",
    ["../encoder.onnx", "a/../../card.json", "/etc/passwd", "..\\card.json", "../harmless.txt"],
)
def test_a_zip_that_points_outside_itself_is_refused(tmp_path, parts, name):
    bad = write_zip(tmp_path / "bad.zip", [*parts.items(), (name, b"x")])
    with pytest.raises(InputError, match="points outside it"):
        read_bundle(bad)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, parts):
    members = parts | {ENCODER: bytes(64 << 20)}
    bomb = write_zip(tmp_path / "bomb.zip", members.items(), zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(InputError, match="claims 67108864 bytes"):
        read_bundle(bomb)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_odd_zips_are_refused(tmp_path, parts):
    def refused(members, match):
        with pytest.raises(InputError, match=match):
            read_bundle(write_zip(tmp_path / "odd.zip", members))

    refused([*parts.items(), (CARD, parts[CARD])], "twice")
    refused([*parts.items(), (f"x/{CARD}", parts[CARD])], "twice")
    refused([(f"{k % 2}/{n}", p) for k, (n, p) in enumerate(parts.items())], "several folders")
    refused([item for item in parts.items() if item[0] != DECODER], "decoder.onnx missing")
    refused([*parts.items(), *((f"f{k}", b"") for k in range(100))], "holds 104 files")
    refused((parts | {CARD: b" " * (2 << 20)}).items(), "claims")


def test_damaged_zips_are_refused(tmp_path, parts):
    whole = write_zip(tmp_path / "b.zip", parts.items()).read_bytes()
    for cut in range(0, len(whole) - 1, max(1, len(whole) // 40)):
        (tmp_path / "cut.zip").write_bytes(whole[:cut])
        with pytest.raises(InputError):
            read_bundle(tmp_path / "cut.zip")
    flipped = whole.replace(b"encoder bytes", b"encoder bytez")
    (tmp_path / "flipped.zip").write_bytes(flipped)
    with pytest.raises(InputError, match="not a readable zip"):
        read_bundle(tmp_path / "flipped.zip")


def test_cards_of_the_first_schema_are_read_unless_clahe_did_nothing_then(tmp_path, parts):
    first = parts[CARD].replace(b'"schema_version":2', b'"schema_version":1')
    now = read_bundle(write_folder(tmp_path / "now", parts))
    assert read_bundle(write_folder(tmp_path / "first", parts | {CARD: first})).card == now.card
    for card, readable in ((parts[CARD], True), (first, False)):
        card = card.replace(b'"clahe":null', b'"clahe":2.0')
        folder = write_folder(tmp_path / str(readable), parts | {CARD: card})
        if readable:
            assert read_bundle(folder).card.clahe == 2
            continue
        said = r"card\.json: was trained when CLAHE did next to nothing\. Remedy: train it again"
        for read, path in ((read_bundle, folder), (Card.read, folder / CARD)):
            with pytest.raises(InputError, match=said):
                read(path)


def test_incomplete_folders_and_wrong_cards_are_refused(tmp_path, parts):
    missing = write_folder(tmp_path / "m", {ENCODER: b"x", CARD: parts[CARD]})
    with pytest.raises(InputError, match=r"decoder\.onnx is missing"):
        read_bundle(missing)
    for number, card in enumerate(
        (
            b"",
            b"{",
            b"[]",
            b'{"name": "x"}',
            parts[CARD].replace(b'"schema_version":2', b'"schema_version":3'),
        )
    ):
        folder = write_folder(tmp_path / str(number), parts | {CARD: card})
        with pytest.raises(InputError, match="not a samling model card"):
            read_bundle(folder)
    with pytest.raises(InputError, match="does not exist"):
        read_bundle(tmp_path / "nowhere.zip")


def test_a_run_folder_or_an_image_is_no_bundle(tmp_path, parts):
    assert not is_bundle(write_folder(tmp_path / "run", {"adapter.json": b"{}"}))
    assert not is_bundle(tmp_path / "nowhere")
    (tmp_path / "a.zip").write_bytes(b"not a zip")
    assert not is_bundle(tmp_path / "a.zip")
