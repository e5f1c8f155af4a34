"""DDTI as published: one N.xml per case with contours, and its images N_1.jpg, N_2.jpg ...

Thyroid ultrasound, Pedraza et al., Proc. SPIE 9287 (2015). Each <mark> has the number of an image
and, as JSON, the contours drawn on it.
"""

import json
from pathlib import Path
from xml.etree import ElementTree

from samling.data.sources.entry import Entry, Listing, Polygon, Problem
from samling.data.sources.files import images_in, natural, safe_id
from samling.errors import InputError

_MAX_XML_BYTES = 8 << 20
_BENIGN = ("2", "3")


def matches(root: Path) -> bool:
    """True if a case file has an image named after it."""
    stems = {path.stem for path in images_in(root)}
    return any(f"{path.stem}_1" in stems for path in root.glob("*.xml"))


def read(root: Path) -> Listing:
    """List the images that have contours; the case is the patient."""
    problems: list[Problem] = []
    images = {path.stem: path for path in images_in(root)}
    entries: list[Entry] = []
    used: set[str] = set()
    for file in sorted(root.glob("*.xml"), key=lambda path: natural(path.stem)):
        try:
            category, contours = read_case(file)
        except InputError as error:
            problems.append(Problem(error.where, error.problem, error.remedy))
            continue
        for number, polygons in contours.items():
            stem = f"{file.stem}_{number}"
            if stem not in images:
                reason = f"has contours for {stem}, which has no image"
                problems.append(Problem(str(file), reason, "add the image", "warning"))
            elif polygons:
                used.add(stem)
                entries.append(_entry(file.stem, images[stem], polygons, category))
    for stem in sorted(images.keys() - used, key=natural):
        remedy = "remove it, or draw its contour"
        problems.append(Problem(str(images[stem]), "has no contour in its XML", remedy))
    licence = "DDTI, Pedraza et al. 2015: open access, no licence text known"
    return Listing(entries, ("nodule",), problems, licence)


def read_case(file: Path) -> tuple[str, dict[str, tuple[Polygon, ...]]]:
    """Read one case file.

    Returns:
        The category by TI-RADS (2, 3 benign; 4a to 5 malignant; "" unknown), and the contours by
        image number.

    Raises:
        InputError: the file is no such XML.
    """
    try:
        data = file.read_bytes()
        if len(data) > _MAX_XML_BYTES or b"<!ENTITY" in data:
            raise InputError(file, "is no case of DDTI", "remove it")
        case = ElementTree.fromstring(data)
        contours: dict[str, tuple[Polygon, ...]] = {}
        for mark in case.iter("mark"):
            number = (mark.findtext("image") or "").strip()
            contours[number] = contours.get(number, ()) + _polygons(mark.findtext("svg") or "[]")
    except (OSError, ElementTree.ParseError, ValueError, TypeError, KeyError) as error:
        problem = f"is no case of DDTI ({type(error).__name__}: {error})"
        raise InputError(file, problem, "copy it again from its source") from error
    tirads = (case.findtext("tirads") or "").strip().lower()
    if not tirads:
        return "", contours
    return "benign" if tirads in _BENIGN else "malignant", contours


def _polygons(text: str) -> tuple[Polygon, ...]:
    regions = json.loads(text.strip() or "[]")
    rings = (
        tuple((float(point["x"]), float(point["y"])) for point in region.get("points", ()))
        for region in regions
    )
    return tuple(Polygon(ring) for ring in rings if len(ring) > 2)


def _entry(case: str, image: Path, polygons: tuple[Polygon, ...], category: str) -> Entry:
    return Entry(
        id=safe_id(f"ddti_{image.stem}"),
        image=image,
        shapes=polygons,
        patient=case,
        group=f"case{case}",
        category=category,
        modality="ultrasound",
    )
