"""Robustness of ultrasound: pictures as another machine, setting or export would have given them.

A protocol with `~` asks about a damaged picture: `box~shadow2` is the tight box on a picture with a
shadow of level 2 of 3. Labels and prompts stay those of the picture as it was.
"""

import io
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samling.data.intensity import min_max
from samling.errors import InputError

LEVELS = (1, 2, 3)
Plane = NDArray[np.float32]
Damage = Callable[[Plane, int, np.random.Generator], Plane]


def _gain(image: Plane, level: int, rng: np.random.Generator) -> Plane:
    """Receiver gain up by 40 % a level; what is too bright is cut."""
    return np.clip(image * np.float32(1 + 0.4 * level), 0, 1)


def _attenuation(image: Plane, level: int, rng: np.random.Generator) -> Plane:
    """Depth gain lacking: down to e^(-0.7 level) at the bottom."""
    depth = np.linspace(0, 1, image.shape[0], dtype=np.float32)[:, None]
    return np.asarray(image * np.exp(-0.7 * level * depth), dtype=np.float32)


def _speckle(image: Plane, level: int, rng: np.random.Generator) -> Plane:
    """Multiplicative grain of standard deviation 0.2 a level, two pixels wide."""
    grain = cv2.GaussianBlur(rng.normal(size=image.shape).astype(np.float32), (0, 0), 1.0)
    return np.clip(image * (1 + 0.2 * level * grain / max(float(grain.std()), 1e-6)), 0, 1)


def _shadow(image: Plane, level: int, rng: np.random.Generator) -> Plane:
    """An acoustic shadow of 8 % of the width a level, from somewhere in the upper third down."""
    height, width = image.shape
    half = max(1, round(0.04 * level * width))
    centre, top = rng.uniform(0.2, 0.8) * width, int(rng.uniform(0, 0.33) * height)
    across = np.abs(np.arange(width) + 0.5 - centre)
    dark = 1 - 0.85 * np.clip((half * 1.25 - across) / (half * 0.25), 0, 1)
    shaded = image.copy()
    shaded[top:] *= dark.astype(np.float32)
    return shaded


def _probe(image: Plane, level: int, rng: np.random.Generator) -> Plane:
    """A sector's black corners: a fan of 45°, 37° or 29° to each side, from above the picture."""
    height, width = image.shape
    apex = -0.35 * height
    y, x = np.mgrid[:height, :width].astype(np.float32) + 0.5
    angle = np.degrees(np.arctan2(np.abs(x - width / 2), y - apex))
    return np.where(angle <= 53 - 8 * level, image, 0).astype(np.float32)


def _marks(image: Plane, level: int, rng: np.random.Generator) -> Plane:
    """Two calipers a level and lines of text, burnt in."""
    height, width = image.shape
    ink = np.zeros((height, width), np.uint8)
    arm = max(2, min(height, width) // 40)
    for _ in range(2 * level):
        x, y = int(rng.uniform(0.1, 0.9) * width), int(rng.uniform(0.1, 0.9) * height)
        cv2.line(ink, (x - arm, y), (x + arm, y), 255, 1)
        cv2.line(ink, (x, y - arm), (x, y + arm), 255, 1)
    scale = min(height, width) / 600
    for line in range(level):
        place = int(0.03 * width), int((0.08 + 0.06 * line) * height)
        cv2.putText(ink, "L 12-3 MHz  D 4.1 cm", place, cv2.FONT_HERSHEY_SIMPLEX, scale, 255)
    return np.maximum(image, ink.astype(np.float32) / 255)


def _jpeg(image: Plane, level: int, rng: np.random.Generator) -> Plane:
    """JPEG of quality 40, 20, 8."""
    buffer = io.BytesIO()
    Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(
        buffer, "JPEG", quality=(40, 20, 8)[level - 1]
    )
    return np.asarray(Image.open(buffer), dtype=np.float32) / np.float32(255)


def _resize(image: Plane, level: int, rng: np.random.Generator) -> Plane:
    """Shrunk to a half, a quarter, an eighth, and enlarged again."""
    height, width = image.shape
    small = max(1, width >> level), max(1, height >> level)
    shrunk = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(shrunk, (width, height)), dtype=np.float32)


DAMAGES: dict[str, Damage] = {
    "gain": _gain,
    "attenuation": _attenuation,
    "speckle": _speckle,
    "shadow": _shadow,
    "probe": _probe,
    "marks": _marks,
    "jpeg": _jpeg,
    "resize": _resize,
}


def divided(protocol: str) -> tuple[str, str]:
    """The prompt and the damage of a protocol's name; "" for none.

    Raises:
        InputError: there is no such damage.

    >>> divided("box~gain2"), divided("jitter10")
    (('box', 'gain2'), ('jitter10', ''))
    """
    prompt, _, name = protocol.partition("~")
    if "~" in protocol and (name[:-1] not in DAMAGES or name[-1:] not in "123"):
        known = ", ".join(DAMAGES)
        raise InputError("--prompts", f"'{name}' is no damage", f"use {known} with 1, 2 or 3")
    return prompt, name


def damaged(image: NDArray[np.generic], name: str, rng: np.random.Generator) -> NDArray[np.float32]:
    """(H, W) stored values -> the same range of values, damaged; "" leaves them as they are.

    Neighbouring slices (3, H, W) are damaged alike.
    """
    if image.ndim == 3:
        seed = int(rng.integers(2**63))
        return np.stack([damaged(one, name, np.random.default_rng(seed)) for one in image])
    values = image.astype(np.float32)
    if not name:
        return values
    low, high = float(values.min()), float(values.max())
    changed = DAMAGES[name[:-1]](min_max(values), int(name[-1]), rng)
    return np.asarray(low + changed * (high - low), dtype=np.float32)
