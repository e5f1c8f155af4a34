"""Images and masks: exact values in, exact values out; every bad file is one InputError."""

import io
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samling.data.readers import read_any
from samling.data.readers.image import read_image, read_mask
from samling.errors import InputError

GREY = (np.arange(48, dtype=np.uint8) * 5).reshape(6, 8)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def truncated() -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()[:900]


def two_pages() -> bytes:
    buffer = io.BytesIO()
    page = Image.fromarray(GREY)
    page.save(buffer, "TIFF", save_all=True, append_images=[page])
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_grey_values_are_kept(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(GREY).save(path)
    pixels, notes = read_image(path)
    assert pixels.dtype == np.uint8 and notes == ()
    np.testing.assert_array_equal(pixels, GREY)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_kept(tmp_path: Path, suffix: str) -> None:
    values = GREY.astype(np.uint16) * 257
    Image.fromarray(values).save(tmp_path / f"a{suffix}")
    pixels, notes = read_image(tmp_path / f"a{suffix}")
    assert pixels.dtype == np.uint16 and notes == ("16-bit",)
    np.testing.assert_array_equal(pixels, values)


def test_colour_becomes_luminance_and_equal_channels_stay(tmp_path: Path) -> None:
    colour = np.random.default_rng(1).integers(0, 256, (9, 7, 3), np.uint8)
    Image.fromarray(colour).save(tmp_path / "c.png")
    Image.fromarray(np.stack([GREY] * 3, axis=-1)).save(tmp_path / "g.png")
    pixels, notes = read_image(tmp_path / "c.png")
    expected = colour @ np.array([0.299, 0.587, 0.114])
    assert np.abs(pixels - expected).max() <= 1 and notes == ("colour turned to grey",)
    same, notes = read_image(tmp_path / "g.png")
    np.testing.assert_array_equal(same, GREY)
    assert notes == ()


def test_transparency_is_laid_over_black(tmp_path: Path) -> None:
    see_through = np.stack([GREY, GREY, GREY, np.where(GREY > 100, 255, 0).astype(np.uint8)], -1)
    Image.fromarray(see_through).save(tmp_path / "a.png")
    pixels, _ = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels, np.where(GREY > 100, GREY, 0))


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_exif_orientation_is_applied(tmp_path: Path, name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    Image.fromarray(GREY).save(tmp_path / name, exif=exif)
    pixels, notes = read_image(tmp_path / name)
    np.testing.assert_allclose(pixels, np.rot90(GREY, -1), atol=6 if name == "a.jpg" else 0)
    assert len(notes) == 1


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_tiff_is_right_or_refused(
    tmp_path: Path, orientation: int, compression: str | None
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(GREY).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(GREY).save(tmp_path / "a.tif", exif=exif, compression=compression)
    try:
        pixels, _ = read_image(tmp_path / "a.tif")
    except InputError as error:
        assert orientation > 4 and compression is None and "upright" in error.remedy
    else:
        np.testing.assert_array_equal(pixels, read_image(tmp_path / "a.png")[0])


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_any(tmp_path / "a.jpg").pixels, GREY)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.png", lambda: b"this is no image"),
        ("empty.png", lambda: b""),
        ("truncated.png", truncated),
        ("bomb.png", lambda: png_header(30_000, 30_000)),
        ("large.png", lambda: png_header(7_100, 7_100)),
        ("nothing.png", lambda: png_header(0, 5)),
        ("signature.jpg", lambda: b"\xff\xd8\xff\xe0"),
        ("pages.tif", two_pages),
        ("gif.png", lambda: b"GIF89a" + bytes(50)),
    ],
)
def test_bad_files_are_one_error_naming_file_and_remedy(
    tmp_path: Path, name: str, content: Callable[[], bytes]
) -> None:
    path = tmp_path / name
    path.write_bytes(content())
    for read in (read_image, read_mask, read_any):
        with pytest.raises(InputError) as caught:
            read(path)
        assert name in str(caught.value) and caught.value.remedy


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for path in (tmp_path / "no.png", tmp_path, tmp_path / "a\0b.png"):
        with pytest.raises(InputError):
            read_any(path)


def test_every_truncation_is_an_error_or_an_image(tmp_path: Path) -> None:
    whole = {}
    for kind in ("PNG", "JPEG", "TIFF", "BMP"):
        buffer = io.BytesIO()
        Image.fromarray(GREY).save(buffer, kind)
        whole[kind] = buffer.getvalue()
    path = tmp_path / "cut"
    for data in whole.values():
        for end in range(0, len(data), max(1, len(data) // 40)):
            path.write_bytes(data[:end])
            with suppress(InputError):
                assert read_any(path).pixels.shape == GREY.shape


def test_masks_are_read_as_the_numbers_in_the_file(tmp_path: Path) -> None:
    numbers = np.array([[0, 1], [2, 255]], np.uint8)
    palette = Image.fromarray(numbers % 3, mode="L").convert("P")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0] + [0] * 759)
    palette.putdata((numbers % 3).ravel().tolist())
    palette.save(tmp_path / "p.png")
    Image.fromarray(numbers).save(tmp_path / "g.png")
    Image.fromarray(np.stack([numbers] * 3 + [numbers * 0 + 255], -1)).save(tmp_path / "rgba.png")
    Image.fromarray(numbers > 0).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "p.png"), numbers % 3)
    np.testing.assert_array_equal(read_mask(tmp_path / "g.png"), numbers)
    np.testing.assert_array_equal(read_mask(tmp_path / "rgba.png"), numbers)
    np.testing.assert_array_equal(read_mask(tmp_path / "bits.png"), (numbers > 0) * 255)


def test_a_coloured_mask_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (255, 0, 0)).save(tmp_path / "m.png")
    with pytest.raises(InputError, match="colour"):
        read_mask(tmp_path / "m.png")
