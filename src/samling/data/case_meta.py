"""CaseMeta: what is known of a case without its pixels."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from samling.data.case import Case, Modality


@dataclass(frozen=True)
class CaseMeta:
    """One row of a store's case table; the fields are those of `Case`, `source` is a file name."""

    id: str
    height: int
    width: int
    group: str = ""
    patient: str | None = None
    category: str = ""
    spacing_mm: tuple[float, ...] | None = None
    modality: Modality = "unknown"
    source: str = ""
    hounsfield: bool = False
    labelled: bool = True

    @classmethod
    def of(cls, case: Case) -> "CaseMeta":
        """Row of a case; a case without a group becomes a group of its own."""
        height, width = case.image.shape
        return cls(
            id=case.id,
            height=height,
            width=width,
            group=case.group or case.id,
            patient=case.patient,
            category=case.category,
            spacing_mm=case.spacing_mm,
            modality=case.modality,
            source=case.source.name if case.source else "",
            hounsfield=case.hounsfield,
            labelled=case.labels is not None,
        )

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "CaseMeta":
        """Undo `row`; unknown keys are left out. TypeError if a key is missing."""
        known = {field.name for field in fields(cls)}
        kept = {key: value for key, value in row.items() if key in known}
        if kept.get("spacing_mm") is not None:
            kept["spacing_mm"] = tuple(float(step) for step in kept["spacing_mm"])
        return cls(**kept)

    def row(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)
