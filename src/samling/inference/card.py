"""Card: what a model is and how it must be fed, saved as JSON beside its weights."""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from samling.atomic import write_text
from samling.data.intensity import Intensity
from samling.errors import InputError
from samling.inference.expectation import Calibration
from samling.prompts.frame import Fit
from samling.prompts.prompt import Prompt, TokenPadding

PromptKind = Literal["box", "points", "mask", "automatic"]
_ASKED: tuple[PromptKind, ...] = ("box", "points", "automatic")
AdapterSettings = dict[str, int | float | str | bool | list[str] | list[int] | None]


class Card(BaseModel):
    """Everything needed to run a model as it was trained, and to trust it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    schema_version: Literal[2] = 2
    name: str
    base: str = Field(description="name of the frozen base the weights belong to")
    base_sha256: str = Field(description="hash of that base's weights, see models/weights.py")
    architecture: str = Field(
        default="light", description="see models/architectures.py: ARCHITECTURES"
    )
    input_size: int = Field(
        default=256, ge=32, le=2048, description="side of the model's square, px"
    )
    embedding_size: int = Field(ge=1, le=512, description="side of the image embedding's grid")
    intensity: Literal["min-max"] = "min-max"
    window_hu: tuple[float, Annotated[float, Field(gt=0)]] | None = Field(
        default=None, description="CT: centre and width of the window that replaces min-max"
    )
    clahe: float | None = Field(
        default=None, gt=0, le=40, description="clip limit of the histogram equalisation"
    )
    fit: Fit = Field(
        default="pad", description="how an image becomes a square, see prompts/frame.py"
    )
    padding: Literal["black", "mean"] = Field(
        default="black", description="what surrounds it: 0, or what normalisation makes 0"
    )
    token_padding: TokenPadding = Field(default="points", description="see prompts/prompt.py")
    precision: Literal["float32", "int8"] = Field(
        default="float32", description="of an exported encoder; see export/int8.py"
    )
    prompts: tuple[PromptKind, ...] = Field(description="prompt kinds the weights were trained for")
    slices: Literal[1, 3] = Field(
        default=1, description="3: the network sees the slices before and after as channels too"
    )
    classes: tuple[str, ...] = Field(default=("object",), min_length=1)
    automatic: Literal["together", "separate", "nested"] = Field(
        default="together",
        description="one answer for all classes, one per class, or one per class inside the one before",
    )
    mask_threshold: float = Field(default=0.0, description="logit above which a pixel is inside")
    presence_threshold: float = Field(
        default=0.5, ge=0, le=1, description="automatic: below it nothing is here"
    )
    minimum_area: float = Field(
        default=0.0005,
        ge=0,
        le=1,
        description="automatic: smaller objects are dropped; share of the image",
    )
    zoom: float | None = Field(
        default=None, ge=1, le=8, description="box prompts: look again at this many times the box"
    )
    split_hash: str | None = Field(default=None, description="hash of the split trained on")
    trained_on: tuple[str, ...] = Field(default=(), description="names of the stores trained on")
    licence: str = "unknown"
    calibration: Calibration | None = Field(
        default=None, description="how far its quality can be trusted: `samling calibrate`"
    )
    adapter: AdapterSettings | None = None
    own_adapter: AdapterSettings | None = Field(
        default=None, description="adapters that are part of the base itself, trained with it"
    )
    network: dict[str, int | str | bool] | None = Field(
        default=None, description="trained from scratch: see models/networks/network.py"
    )

    @property
    def answers(self) -> int:
        """How many masks automatic mode gives."""
        return 1 if self.automatic == "together" else len(self.classes)

    @property
    def asked_kinds(self) -> tuple[PromptKind, ...]:
        """Kinds of prompt that begin a question, the one that a temperature is fitted to first."""
        return tuple(kind for kind in _ASKED if kind in self.prompts)

    def temperature(self, kind: PromptKind) -> float:
        """Of the logits that answer a kind of prompt; 1 for all but the one it was fitted to."""
        if self.calibration is None or (kind,) != self.asked_kinds[:1]:
            return 1.0
        return self.calibration.temperature

    @property
    def intensity_steps(self) -> Intensity:
        """What is done to values before the network sees them."""
        return Intensity(self.window_hu, self.clahe)

    def save(self, path: str | Path) -> None:
        """Write as JSON, whole or not at all."""
        write_text(path, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> "Card":
        """Read a card.

        Raises:
            InputError: the file is missing, no JSON, or not a card of this schema.
        """
        path = Path(path)
        try:
            return cls.parse(path, path.read_bytes())
        except FileNotFoundError:
            raise InputError(
                path, "does not exist", "name a run, a bundle or a known model"
            ) from None

    @classmethod
    def parse(cls, path: Path, content: bytes) -> "Card":
        """A card from its JSON; schema 1, too, unless it asks for CLAHE, which did next to nothing then.

        Raises:
            InputError: no JSON, or not a card of these schemas; it names `path`.
        """
        try:
            told = json.loads(content)
            if isinstance(told, dict) and told.get("schema_version") == 1:
                if told.get("clahe"):
                    problem = "was trained when CLAHE did next to nothing"
                    raise InputError(path, problem, "train it again, in another folder")
                told["schema_version"] = 2
            return cls.model_validate_json(json.dumps(told))
        except ValidationError as error:
            first = error.errors()[0]
            problem = f"{'.'.join(map(str, first['loc'])) or 'JSON'}: {first['msg']}"
        except (ValueError, RecursionError) as error:  # no JSON, or no text at all
            problem = str(error).splitlines()[0]
        problem = f"is not a samling model card ({problem})"
        raise InputError(path, problem, "export or train it again with this version of samling")


def kinds_given(prompt: Prompt) -> list[PromptKind]:
    """Everything that a prompt says."""
    if prompt.automatic:
        return ["automatic"]
    kinds: list[PromptKind] = []
    if prompt.box is not None:
        kinds.append("box")
    if len(prompt.points):
        kinds.append("points")
    if prompt.mask is not None:
        kinds.append("mask")
    return kinds


def as_calibrated(prompt: Prompt) -> PromptKind | None:
    """The kind of a prompt that calibration asks with: a box, one point, or nothing.

    None: of a box with clicks, of several points, of an earlier mask it knows nothing.
    """
    kinds = kinds_given(prompt)
    known = len(kinds) == 1 and len(prompt.points) <= 1 and prompt.mask is None
    return kinds[0] if known else None
