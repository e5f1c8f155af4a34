"""Planted copies and false alarms on prepared stores: leak_check.py STORE.h5 ... [--images N].

Every image of every store (or N of each) is changed (mirrored, turned, cropped by 5 %, recompressed, all
at once) and looked for among all of them; and every image is compared with those of other groups. The same
with the hashes by which a model knows its training images, which do not see through a crop.
"""

import argparse
import io
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samling.data.leaks import find_leaks, fingerprint
from samling.data.picture_hash import SAME, differing, picture_hash
from samling.data.store import Store

Plane = NDArray[np.float32]


def main() -> None:
    """Print found and missed copies per change, and false alarms per store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stores", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=0, help="of each store; 0: all")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    planes, owners = [], []
    for store in map(Store.open, given.stores):
        ids = [*store.splits.train.ids, *store.splits.val.ids]  # test images are nobody's business
        chosen = rng.permutation(ids)[: given.images or len(ids)]
        planes += [store.case(id).image for id in chosen]
        owners += [(store.name, f"{store.name}/{store.meta(id).group}") for id in chosen]
    prints = [fingerprint(plane) for plane in planes]
    for name in ("mirrored", "turned", "cropped", "recompressed", "all"):
        leaks = find_leaks(prints, [fingerprint(_changed(p, name, rng)) for p in planes])
        alike = {leak.second for leak in leaks if leak.first == leak.second}
        print(f"{name}: {len(alike)} of {len(planes)} found")
    leaks = find_leaks(prints, prints)
    for store in dict.fromkeys(name for name, _ in owners):
        own = {n for n, (name, _) in enumerate(owners) if name == store}
        accused = {
            k.second for k in leaks if k.second in own and owners[k.first][1] != owners[k.second][1]
        }
        share = len(accused) / len(own)
        print(f"{store}: {len(accused)} of {len(own)} images accused ({share:.2%})")
    check_hashes(planes, np.array([group for _, group in owners]), rng)


def check_hashes(planes: list[Plane], groups: NDArray[np.str_], rng: np.random.Generator) -> None:
    """Print how far copies are from their own picture's hash, and pictures of other groups from it."""
    hashes = np.stack([picture_hash(plane) for plane in planes])
    for name in ("mirrored", "turned", "recompressed", "half size and darker", "cropped by 1 %"):
        changed = (_changed(plane, name, rng) for plane in planes)
        far = [differing(hashes[n : n + 1], copy)[0] for n, copy in enumerate(changed)]
        found = sum(value <= SAME for value in far)
        print(f"by hash, {name}: {found} of {len(planes)} found, {max(far)} signs off at most")
    others = [(hashes[groups != group], plane) for group, plane in zip(groups, planes, strict=True)]
    near = [differing(other, plane).min() for other, plane in others if len(other)]
    wrong = sum(value <= SAME for value in near)
    least = min(near, default="none")
    print(f"by hash: {wrong} of {len(near)} images accused, {least} signs off at least")


def _changed(image: Plane, name: str, rng: np.random.Generator) -> Plane:
    if name in ("mirrored", "all"):
        image = image[:, ::-1]
    if name in ("turned", "all"):
        image = np.rot90(image)
    if name in ("cropped", "all", "cropped by 1 %"):
        height, width = image.shape
        share = 0.01 if name == "cropped by 1 %" else 0.05
        down, across = round(share * height), round(share * width)
        top, left = rng.integers(down + 1), rng.integers(across + 1)
        image = image[top : height - down + top, left : width - across + left]
    if name == "half size and darker":
        image = cv2.resize(
            image.astype(np.float32), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA
        )
        image = ((image - image.min()) / max(np.ptp(image), 1)) ** 1.25
    if name in ("recompressed", "all"):
        low, high = image.min(), image.max()
        buffer = io.BytesIO()
        levels = (255 * (image - low) / max(high - low, 1)).astype(np.uint8)
        Image.fromarray(levels).save(buffer, "JPEG", quality=50)
        image = np.asarray(Image.open(buffer), dtype=np.float32)
    return image


if __name__ == "__main__":
    main()
