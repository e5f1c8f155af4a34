"""The tables of the papers that samling builds on, as typed data: their figures, and how we rerun them."""

from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from samling.config import Section
from samling.errors import InputError, one_of


class Rerun(Section):
    """How a row is made here: a recipe trained with changes, or a model that is there already."""

    verb: Literal["adapt", "train", "model"]
    what: str = Field(description="recipe, or the model's name")
    changes: tuple[str, ...] = ()


class PaperRow(Section):
    """One line of a table; what is a share (Dice, IoU) is written as one, not in percent."""

    method: str
    store: str = ""
    dice: float | None = Field(default=None, ge=0, le=1)
    iou: float | None = Field(default=None, ge=0, le=1)
    other: dict[str, float] = Field(default={}, description="what else the table has, with units")
    ours: Rerun | None = None


class PaperTable(Section):
    """One table.

    Args:
        prompt: how we ask, where the paper does not say.
        difference: why our figures may differ. not_here: why some rows cannot be rerun.
    """

    title: str
    source: str
    rows: tuple[PaperRow, ...]
    prompt: str = "box"
    difference: str
    not_here: str = ""


class Paper(Section):
    """A paper and its tables."""

    title: str
    reference: str
    tables: dict[str, PaperTable]


def papers() -> dict[str, Path]:
    """Name -> file."""
    folder = Path(str(resources.files("samling") / "recipes" / "published"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_paper(name: str) -> Paper:
    """A paper by name.

    Raises:
        InputError: there is none of that name.
    """
    known = papers()
    if name not in known:
        raise InputError(name, "is no paper known here", one_of(name, known))
    content: Any = yaml.safe_load(known[name].read_text(encoding="utf-8"))
    try:
        return Paper.model_validate(content)
    except ValidationError as error:
        raise InputError(known[name], str(error).splitlines()[0], "mend the file") from None


def listing(name: str = "") -> str:
    """Every table of a paper, or of all: a line each, with the data sets that can be rerun.

    Raises:
        InputError: there is no paper of that name.
    """
    lines = []
    for each in [name] if name else papers():
        paper = read_paper(each)
        lines.append(f"{each}: {paper.title}")
        for table, content in paper.tables.items():
            stores = dict.fromkeys(row.store for row in content.rows if row.ours and row.store)
            needs = (
                f" (--data {', '.join(f'{store}=STORE.h5' for store in stores)})" if stores else ""
            )
            lines.append(f"  {table:<10} {content.title}{needs}")
    return "\n".join(lines)


def read_table(paper: Paper, name: str) -> PaperTable:
    """A table of a paper.

    Raises:
        InputError: there is none of that name.
    """
    if name not in paper.tables:
        raise InputError(name, "is no table of this paper", one_of(name, paper.tables))
    return paper.tables[name]
