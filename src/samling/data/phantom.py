"""Seeded ultrasound phantoms: B-mode pictures of layered tissue with lesions whose masks are exact.

A picture is made as a scanner makes it: complex Gaussian scatterers of tissue-dependent strength
are convolved with a point spread function that widens away from the focus, the envelope is taken
and log-compressed. Sound is lost on its way down, more in solid lesions (shadow), less in cysts
(enhancement). It is a stand-in for real data in demos and tests, not a simulator.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from samling.atomic import atomic_path
from samling.data.case import Case

Array = NDArray[np.float64]
Picture = NDArray[np.float32]
Kind = Literal["cyst", "solid"]

DEPTH_MM = 40.0
FRAMES_PER_PATIENT = 2
CATEGORIES = ("cyst", "solid", "solid", "cyst", "normal")
"""Category of patient 0, 1, 2 ..., repeated: even a small set holds all of them."""
_LOOKS = 2
"""Independent looks averaged per picture, as in a scanner's spatial compounding."""
_SLIDE = 0.06
"""How far the probe moves between two frames of a patient, as a share of the picture's width."""
_BREATH, _SWELLING = 40, 28
"""Frames of a cine until the probe and the size of the lesions are where they were."""


@dataclass(frozen=True)
class Lesion:
    """An outline in polar form around a centre; lengths are shares of the picture's height."""

    kind: Kind
    x: float
    y: float
    half_width: float
    half_height: float
    tilt: float
    level: float
    """Scatterer strength inside, dB."""
    waves: Array
    """(K, 2) amplitude and phase of the outline's K lowest waves from the second on."""

    def inside(self, x: Array, y: Array) -> Array:
        """Signed position of points: 0 at the centre, 1 on the outline, above outside."""
        dx, dy = x - self.x, y - self.y
        across = (dx * np.cos(self.tilt) + dy * np.sin(self.tilt)) / self.half_width
        down = (dy * np.cos(self.tilt) - dx * np.sin(self.tilt)) / self.half_height
        angle = np.arctan2(down, across)
        outline = np.ones_like(angle)
        for order, (amplitude, phase) in enumerate(self.waves, start=2):
            outline += amplitude * np.cos(order * angle + phase)
        return np.hypot(across, down) / outline


def phantom(seed: int, size: tuple[int, int] = (256, 320)) -> Case:
    """One picture. Seeds 2k and 2k + 1 are two frames of one patient: same tissue, new speckle.

    Args:
        seed: not negative; the same seed and size give the same picture, bit for bit.
        size: (height, width) in pixels, each at least 32.

    Returns:
        Case with an image (H, W) of whole numbers 0..255, labels (H, W) 0 or 1 (lesion), the
        patient as group, and category `cyst`, `solid` or `normal`.
    """
    if seed < 0 or min(size) < 32:
        raise ValueError(f"phantom needs a seed >= 0 and sides >= 32 px, got {seed} and {size}")
    patient, frame = divmod(seed, FRAMES_PER_PATIENT)
    category = CATEGORIES[patient % len(CATEGORIES)]
    height, width = size
    tissue, lesions = _patient(patient, category, size)
    rng = np.random.default_rng([1, patient, frame])
    slide = float(rng.uniform(0, 2 * _SLIDE))
    offset = round(slide * width)
    growth = float(rng.uniform(0.88, 1.1)) if frame else 1.0
    seen = tissue[:, offset : offset + width]
    image, labels = _view(seen, lesions, offset, growth, np.random.default_rng([2, patient]), rng)
    name = f"patient{patient:05d}"
    return Case(
        id=f"phantom_{seed:06d}",
        image=image,
        labels=labels,
        spacing_mm=(DEPTH_MM / height, DEPTH_MM / height),
        patient=name,
        group=name,
        category=category,
        modality="ultrasound",
    )


class PhantomCine(Sequence[tuple[Picture, NDArray[np.uint8]]]):
    """A loop of one patient: the probe slides back and forth, the lesions swell and shrink by 10 %.

    Frames are drawn when they are asked for: image (H, W) of whole numbers 0..255 and labels (H, W), 1
    for lesion. Every frame has new speckle; in real loops it moves with the tissue.

    Args:
        patient: not negative; every fifth one, from 4, has no lesion. count: frames.
        size: (height, width) in pixels, each at least 32.
    """

    def __init__(self, patient: int, count: int, size: tuple[int, int] = (256, 320)) -> None:
        if patient < 0 or min(size) < 32:
            raise ValueError(f"a cine needs a patient >= 0 and sides >= 32 px: {patient}, {size}")
        self.patient, self.length, self.width = patient, count, size[1]
        self.tissue, self.lesions = _patient(patient, CATEGORIES[patient % len(CATEGORIES)], size)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < self.length:
            raise IndexError(index)
        offset = round(_SLIDE * self.width * (1 + np.sin(2 * np.pi * index / _BREATH)))
        growth = 1 + 0.1 * np.sin(2 * np.pi * index / _SWELLING)
        seen = self.tissue[:, offset : offset + self.width]
        machine = np.random.default_rng([2, self.patient])
        rng = np.random.default_rng([3, self.patient, index])
        return _view(seen, self.lesions, offset, growth, machine, rng)


def _view(
    tissue: Array,
    lesions: list[Lesion],
    offset: int,
    growth: float,
    machine: np.random.Generator,
    rng: np.random.Generator,
) -> tuple[Picture, NDArray[np.uint8]]:
    """Image and labels of tissue (H, W) that begins at `offset` pixels; lesions `growth` times as large."""
    height = tissue.shape[0]
    y, x = (np.indices(tissue.shape) + 0.5) / height
    lesions = [
        replace(
            lesion,
            x=lesion.x - offset / height,
            half_width=lesion.half_width * growth,
            half_height=lesion.half_height * growth,
        )
        for lesion in lesions
    ]
    inside = [lesion.inside(x, y) for lesion in lesions]
    strength = _with_lesions(tissue, lesions, inside, rng) + _transmission(lesions, inside, height)
    labels = np.zeros(tissue.shape, dtype=np.uint8)
    for distance in inside:
        labels[distance <= 1] = 1
    return _scan(strength, machine, rng), labels


def write_phantom_set(
    folder: str | Path,
    n: int,
    seed: int = 0,
    *,
    size: tuple[int, int] = (256, 320),
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write `n` pictures as a data set of the `folder` layout.

    Files: `images/<id>.png`, `masks/<id>.png` (0 or 255, of the same size) and `meta.csv`
    (id, class, case_id, group_id, pixel_mm). Different seeds give different patients.

    Args:
        progress: called with (done, n) after each picture.

    Returns:
        The folder.
    """
    folder = Path(folder)
    rows: list[dict[str, str | float]] = []
    first = seed * 1_000_000
    for index in range(n):
        case = phantom(first + index, size)
        assert case.labels is not None and case.spacing_mm is not None
        _write_png(folder / "images" / f"{case.id}.png", case.image.astype(np.uint8))
        _write_png(folder / "masks" / f"{case.id}.png", case.labels * np.uint8(255))
        rows.append(
            {
                "id": case.id,
                "class": case.category,
                "case_id": case.patient or "",
                "group_id": case.group or "",
                "pixel_mm": case.spacing_mm[0],
            }
        )
        if progress is not None:
            progress(index + 1, n)
    with (
        atomic_path(folder / "meta.csv") as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, ["id", "class", "case_id", "group_id", "pixel_mm"])
        writer.writeheader()
        writer.writerows(rows)
    return folder


def _write_png(path: Path, image: NDArray[np.uint8]) -> None:
    done, data = cv2.imencode(".png", image)
    assert done
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.tobytes())


def _patient(patient: int, category: str, size: tuple[int, int]) -> tuple[Array, list[Lesion]]:
    """Scatterer strength in dB, (H, W + room to slide), and the lesions of one patient."""
    rng = np.random.default_rng([0, patient])
    height, width = size
    wide = width + round(2 * _SLIDE * width) + 1
    tissue = _layers(rng, height, wide)
    if category == "normal":
        return tissue, []
    kind: Kind = "cyst" if category == "cyst" else "solid"
    wanted = int(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1]))
    lesions: list[Lesion] = []
    for _ in range(50):  # a place may be taken: try again, but not for ever
        if len(lesions) == wanted:
            break
        candidate = _lesion(rng, kind, width / height, wide / height, alone=wanted == 1)
        if all(_apart(candidate, other) for other in lesions):
            lesions.append(candidate)
    return tissue, lesions


def _lesion(
    rng: np.random.Generator, kind: Kind, width: float, wide: float, *, alone: bool
) -> Lesion:
    half = float(rng.uniform(0.07, 0.19 if alone else 0.11))
    if kind == "cyst":
        flat, waves = float(rng.uniform(0.5, 0.95)), rng.uniform(0, 0.05, 3)
    else:
        flat, waves = float(rng.uniform(0.6, 1.15)), rng.uniform(0.4, 1.0, 9) * 0.17
        waves = waves / np.arange(1, 10) ** 0.6
    # stays whole in every frame: clear of both edges even when the probe has slid
    margin = 1.6 * half + 2 * _SLIDE * width
    return Lesion(
        kind=kind,
        x=float(rng.uniform(margin, max(wide - margin, margin + 1e-6))),
        y=float(rng.uniform(0.18 + half * flat, 0.78 - half * flat)),
        half_width=half,
        half_height=half * flat,
        tilt=float(rng.uniform(-0.6, 0.6)),
        level=-55.0 if kind == "cyst" else float(rng.uniform(-26, -19)),
        waves=np.stack([waves, rng.uniform(0, 2 * np.pi, len(waves))], axis=1),
    )


def _apart(one: Lesion, other: Lesion) -> bool:
    reach = 1.6 * max(one.half_width, one.half_height)
    reach += 1.6 * max(other.half_width, other.half_height)
    # not one in the other's shadow either: that would hide the lower outline
    beside = abs(one.x - other.x) > one.half_width + other.half_width
    return float(np.hypot(one.x - other.x, one.y - other.y)) > reach and beside


def _noise(rng: np.random.Generator, shape: tuple[int, int], down: float, across: float) -> Array:
    """Smooth random field of mean 0 and deviation 1; the two scales are in pixels.

    Drawn on a coarse grid of about one node a scale and interpolated: cheaper than a wide filter.
    """
    nodes = [
        max(3, round(n / max(scale, 0.5)) + 2)
        for n, scale in zip(shape, (down, across), strict=True)
    ]
    nodes = [min(count, n) for count, n in zip(nodes, shape, strict=True)]
    coarse = cv2.GaussianBlur(rng.standard_normal(nodes), (0, 0), 0.7)
    field = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC).astype(np.float64)
    return (field - field.mean()) / max(float(field.std()), 1e-9)


def _layers(rng: np.random.Generator, height: int, wide: int) -> Array:
    """Skin, fat with septa, gland, muscle with fibres, deep wall: strength in dB, (H, wide)."""
    shape = (height, wide)
    depth = (np.arange(height) + 0.5)[:, None] / height
    along = np.linspace(-0.5, 0.5, wide)[None]
    marks = np.array([0.035, rng.uniform(0.17, 0.3), rng.uniform(0.62, 0.74), 0.0])
    marks[3] = marks[2] + rng.uniform(0.13, 0.18)
    borders = [  # bent by slow waves, and tilted: a probe is never quite level
        mark + scale * _noise(rng, (1, wide), 1, wide / 6) + scale * 2 * rng.normal() * along
        for mark, scale in zip(marks, (0.003, 0.024, 0.024, 0.016), strict=True)
    ]
    lean = rng.uniform(-0.18, 0.18)  # fibres and septa follow the tilt
    coarse = _noise(rng, shape, height / 10, height / 5)
    lobes = _sheared(_noise(rng, shape, height / 26, height / 7), lean)
    fibres = _sheared(_noise(rng, shape, height / 70, height / 5), lean)
    fine = _sheared(_noise(rng, shape, height / 100, height / 16), -lean)
    septa = _threads(_sheared(_noise(rng, shape, height / 12, height / 4), 2 * lean), 0.10)
    strands = _threads(_noise(rng, shape, height / 17, height / 5), 0.22)
    levels = np.array([3.0, -14.0, -5.0, -16.0, -14.0]) + rng.uniform(-2, 2, 5)
    textures = [
        1.5 * fine,
        1.2 * coarse + 1.5 * fine + 10.0 * septa,
        2.6 * coarse + 2.6 * lobes + 1.8 * fine + 5.0 * strands,
        1.2 * coarse + 5.5 * fibres + 1.5 * fine,
        2.4 * coarse + 4.0 * fibres + 6.0 * strands,
    ]
    strength = levels[0] + textures[0]
    for border, level, texture in zip(borders, levels[1:], textures[1:], strict=True):
        below = 1 / (1 + np.exp(-(depth - border) * height / 0.9))
        strength = strength * (1 - below) + (level + texture) * below
    for border, gain in zip(borders, (6.0, 13.0, 15.0, 17.0), strict=True):
        patchy = np.clip(0.8 + 0.6 * _noise(rng, (1, wide), 1, wide / 14), 0.0, 1.6)
        strength += gain * patchy * np.exp(-(((depth - border) * height / 1.4) ** 2))
    return strength


def _threads(field: Array, width: float) -> Array:
    """1 where a smooth field crosses zero, 0 elsewhere: thin curved lines."""
    return np.exp(-((field / width) ** 2))


def _sheared(field: Array, lean: float) -> Array:
    """Slide columns down in proportion to their place, so that level structures lean."""
    height, width = field.shape
    matrix = np.array([[1.0, 0.0, 0.0], [lean, 1.0, -lean * width / 2]])
    moved = cv2.warpAffine(field, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)
    return moved.astype(np.float64, copy=False)


def _with_lesions(
    strength: Array, lesions: list[Lesion], inside: list[Array], rng: np.random.Generator
) -> Array:
    """Replace the tissue by each lesion's own: an empty cyst, or a dark uneven solid mass."""
    strength = strength.copy()
    height = strength.shape[0]
    for lesion, distance in zip(lesions, inside, strict=True):
        size = min(lesion.half_width, lesion.half_height) * height
        if lesion.kind == "cyst":
            fill, edge = np.full_like(strength, lesion.level), 0.5 / size
            # the wall mirrors sound where it lies across the beam: above and below
            slope = np.abs(np.gradient(distance, axis=0)) * size
            wall = 7.0 * np.clip(slope, 0, 1) ** 2 * np.exp(-(((distance - 1) * size / 1.6) ** 2))
        else:
            uneven = _noise(rng, strength.shape, height / 20, height / 14)
            fill, edge = lesion.level + 3.0 * uneven, 1.1 / size
            wall = 3.0 * np.exp(-(((distance - 1.12) * size / 3.0) ** 2))
        part = 1 / (1 + np.exp(np.clip((distance - 1) / edge, -50, 50)))
        strength = strength * (1 - part) + fill * part + wall
    return strength


def _transmission(lesions: list[Lesion], inside: list[Array], height: int) -> Array | float:
    """Gain in dB behind the lesions: sound lost or spared on the way down, beam by beam."""
    gain: Array | float = 0.0
    for lesion, distance in zip(lesions, inside, strict=True):
        path = np.cumsum(distance <= 1, axis=0) / height
        rate, most = (75.0, 9.0) if lesion.kind == "cyst" else (-75.0, -14.0)
        behind = most * (1 - np.exp(-rate * path / most))
        behind = np.where(distance <= 1, 0.25 * behind, behind)
        gain = gain + ndimage.gaussian_filter(behind, (1.0, 0.012 * height))
        if lesion.kind == "cyst":  # sound is bent away at the flanks: two thin shadows
            flank = np.exp(-(((distance - 1.04) / 0.06) ** 2)) * (path == 0)
            steep = np.clip(np.abs(np.gradient(distance, axis=1)) * height / 14, 0, 1)
            gain = gain - 5.0 * np.tanh(np.cumsum(flank * steep**4, axis=0) / 14)
    return gain


def _scan(strength: Array, machine: np.random.Generator, rng: np.random.Generator) -> Picture:
    """Scatterers, point spread function, envelope, log compression: (H, W) float32 0..255."""
    height, width = strength.shape
    depth = ((np.arange(height, dtype=np.float32) + 0.5) / height)[:, None]
    pixel = height / 256
    focus, axial = machine.uniform(0.35, 0.6), machine.uniform(0.7, 0.95) * pixel
    lateral, loss = machine.uniform(0.9, 1.3) * pixel, machine.uniform(10, 22)
    dynamic_range, gamma = machine.uniform(50, 60), machine.uniform(1.15, 1.5)
    # beams of three fixed widths, mixed by depth, stand for a beam that widens out of focus
    widths = np.array([1.0, 1.6, 2.6])
    wanted = 1 + 1.6 * np.abs(depth - focus) / 0.6
    shares = [np.interp(wanted, widths, row).astype(np.float32) for row in np.eye(3)]
    amplitude = (10 ** (strength / 20)).astype(np.float32)
    looks = []
    for _ in range(_LOOKS):
        parts = rng.standard_normal((2, height, width), dtype=np.float32) * amplitude
        fields = [
            sum(
                share * cv2.GaussianBlur(part, (0, 0), lateral * beam, sigmaY=axial) * beam**0.5
                for share, beam in zip(shares, widths, strict=True)
            )
            for part in parts
        ]
        looks.append(np.hypot(*fields))
    envelope = np.mean(looks, axis=0) * 10 ** (-loss * depth / 20)
    # the receiver's own noise, amplified with depth, is all that is left in a cyst
    noise = np.hypot(*rng.standard_normal((2, height, width), dtype=np.float32))
    noise = cv2.GaussianBlur(noise, (0, 0), 0.6 * pixel) * (0.3 + depth)
    decibel = 20 * np.log10(envelope + 0.02 * noise * np.percentile(envelope, 70) + 1e-9)
    decibel = cv2.GaussianBlur(decibel, (0, 0), 0.45)
    bright = np.clip((decibel - np.percentile(decibel, 99.6)) / dynamic_range + 1, 0, 1)
    return np.rint(255 * bright**gamma).astype(np.float32)
