"""SNOMED CT codes of what is segmented, by the names that classes have here."""

from typing import NamedTuple


class Code(NamedTuple):
    """A concept of SNOMED CT."""

    value: str
    meaning: str


class SegmentCode(NamedTuple):
    """What a segment is, for DICOM: its category, its type, and the organ it lies in."""

    category: Code
    type: Code
    organ: Code | None = None


_STRUCTURE = Code("123037004", "Anatomical Structure")
_ABNORMAL = Code("49755003", "Morphologically Abnormal Structure")
_TISSUE = Code("85756007", "Body tissue structure")
LIVER, BREAST, THYROID = (
    Code("10200004", "Liver"),
    Code("76752008", "Breast"),
    Code("69748006", "Thyroid gland"),
)
_ORGANS = {
    "liver": LIVER,
    "breast": BREAST,
    "thyroid": THYROID,
    "kidney": Code("64033007", "Kidney"),
    "spleen": Code("78961009", "Spleen"),
    "pancreas": Code("15776009", "Pancreas"),
    "ovary": Code("15497006", "Ovary"),
    "nerve": Code("3057000", "Nerve"),
    "vessel": Code("59820001", "Blood vessel"),
    "head": Code("69536005", "Head"),
}
_FINDINGS = {
    "tumour": Code("108369006", "Neoplasm"),
    "tumor": Code("108369006", "Neoplasm"),
    "lesion": Code("52988006", "Lesion"),
    "nodule": Code("27925004", "Nodule"),
    "cyst": Code("441457006", "Cyst"),
}


def code_of(class_name: str) -> SegmentCode:
    """Codes of a class by the words in its name; a name nobody knows is tissue.

    >>> code_of("liver tumour").type.meaning, code_of("liver tumour").organ.meaning
    ('Neoplasm', 'Liver')
    """
    name = class_name.lower().replace("_", " ")
    organ = next((code for word, code in _ORGANS.items() if word in name), None)
    finding = next((code for word, code in _FINDINGS.items() if word in name), None)
    if finding is not None:
        return SegmentCode(_ABNORMAL, finding, organ)
    return SegmentCode(_STRUCTURE, organ) if organ else SegmentCode(_TISSUE, _TISSUE)
