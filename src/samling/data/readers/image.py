"""PNG, JPEG, TIFF and BMP through Pillow: grey planes and masks, bounded before decoding."""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from samling.data.readers.bounds import check_pixels, kind_of, read_head
from samling.errors import InputError

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
_ORIENTATION = 0x0112
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


def read_image(path: str | Path) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], tuple[str, ...]]:
    """Read one image as grey: (H, W) uint8 or uint16, and notes on what was converted.

    Colour becomes luminance, transparency is laid over black, EXIF orientation is applied.

    Raises:
        InputError: missing, damaged, too large, of another format or pixel type.
    """
    path = Path(path)
    image, notes = _open(path)
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L")), notes
    if image.mode.startswith("I"):
        return _sixteen_bit(path, image), (*notes, "16-bit")
    if image.mode == "F":
        raise InputError(path, "has floating-point pixels", "save it with 8 or 16 bits")
    return _luminance(path, image, notes)


def read_mask(path: str | Path) -> NDArray[np.int32]:
    """Read a mask as the integers in the file: (H, W) int32, unchanged.

    A palette of black and white is read by its colours, any other palette by its indices.
    Colour channels that agree are one channel; a transparency channel is ignored.

    Raises:
        InputError: as `read_image`, and for masks drawn in colour.
    """
    path = Path(path)
    image, _ = _open(path)
    if image.mode == "P":
        return _palette_mask(image)
    if image.mode == "1":
        return np.asarray(image.convert("L")).astype(np.int32)
    if image.mode in ("RGB", "RGBA", "RGBX", "LA"):
        channels = np.asarray(image)
        channels = channels[..., :1] if image.mode == "LA" else channels[..., :3]
        if (channels != channels[..., :1]).any():
            raise InputError(path, "is a mask in colour", "save it as grey: 0/255 or class numbers")
        return channels[..., 0].astype(np.int32)
    if image.mode == "L" or image.mode.startswith("I"):
        return np.asarray(image).astype(np.int32)
    raise InputError(path, f"is a mask of pixel type {image.mode}", "save it as 8-bit grey")


def is_lossy(path: Path) -> bool:
    """True for JPEG files: the values of a mask are not to be trusted to the last grey level."""
    return kind_of(read_head(path)) == "JPEG"


def _open(path: Path) -> tuple[Image.Image, tuple[str, ...]]:
    kind = kind_of(read_head(path))
    if kind not in FORMATS:
        what = "a DICOM file" if kind else "no PNG, JPEG, TIFF or BMP file"
        raise InputError(path, f"is {what}", "give one of these formats")
    try:
        with warnings.catch_warnings():
            # Our own, lower limit follows; damaged metadata only matters if the pixels fail.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=(kind,)) as image:
                return _decode(path, image)
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(path, "has too many pixels", "scale the image down or cut it") from None
    except Exception as error:  # a decoder that meets damaged bytes may raise anything
        problem = f"cannot be decoded as {kind} ({_first_line(error)})"
        raise InputError(path, problem, "export or copy it again") from error


def _decode(path: Path, image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    check_pixels(path, image.height, image.width)
    pages = getattr(image, "n_frames", 1)
    if pages > 1:
        raise InputError(path, f"holds {pages} pages", "save each page as a file of its own")
    turned = image.getexif().get(_ORIENTATION, 1) not in (0, 1)
    claimed = image.size
    image.load()
    # Pillow turns a TIFF while it loads; Pillow 13 turns an uncompressed one twice.
    if image.format == "TIFF" and image.size != claimed:
        raise InputError(path, "is a TIFF with an EXIF rotation", "save it upright")
    upright = image.copy() if image.format == "TIFF" else ImageOps.exif_transpose(image)
    return upright, ("turned as its EXIF orientation says",) if turned else ()


def _sixteen_bit(path: Path, image: Image.Image) -> NDArray[np.uint16]:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
        raise InputError(path, "has pixels beyond 16 bits", "save it with 8 or 16 bits")
    return values.astype(np.uint16)


def _luminance(
    path: Path, image: Image.Image, notes: tuple[str, ...]
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        see_through = int(np.asarray(image)[..., 3].min()) < 255
        image = Image.alpha_composite(black, image)
        notes = (*notes, "transparency laid over black") if see_through else notes
    try:
        colour = image.convert("RGB")
    except ValueError:
        raise InputError(
            path, f"has pixels of type {image.mode}", "save it as grey or RGB"
        ) from None
    channels = np.asarray(colour)
    if (channels != channels[..., :1]).any():
        return np.asarray(colour.convert("L")), (*notes, "colour turned to grey")
    return np.ascontiguousarray(channels[..., 0]), notes


def _palette_mask(image: Image.Image) -> NDArray[np.int32]:
    indices = np.asarray(image)
    colours = np.asarray(image.convert("RGB"))[..., :3]
    if np.isin(colours, (0, 255)).all() and (colours == colours[..., :1]).all():
        return colours[..., 0].astype(np.int32)
    return indices.astype(np.int32)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
