"""Recipes as typed configuration: YAML plus `key=value`, validated, printable, saved beside results."""

import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from samling.errors import InputError, meant, one_of

Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A part of a recipe. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class AdapterSection(Section):
    """Which adapter goes where."""

    kind: Literal["lr", "serial", "ch", "lora", "med2d", "none"] = "lr"
    sites: tuple[str, ...] = Field(
        default=("conv", "mlp"), description="`kind` or `kind:stage`; see Sam.sites"
    )
    placement: Literal["parallel", "serial"] = "parallel"
    rank: int = Field(default=16, ge=1, description="lr: k, clamped to min(d, r) per site; lora: r")
    reduction: int = Field(default=8, ge=1, description="bottleneck r = d / reduction")
    tied: bool = False
    edges: Literal["magnitude", "concatenation"] = Field(
        default="magnitude", description="ch: one number per edge channel, or its four directions"
    )


class LossSection(Section):
    """Weights of the terms; 0 switches a term off."""

    focal: float = Field(default=20.0, ge=0)
    dice: float = Field(default=1.0, ge=0)
    cross_entropy: float = Field(default=0.0, ge=0)
    mask_iou: float = Field(default=1.0, ge=0)
    boundary: float = Field(default=2.0, ge=0)
    presence: float = Field(default=1.0, ge=0, description="automatic mode: is anything there?")
    bce: float = Field(default=0.0, ge=0, description="binary cross-entropy")
    clicked: float = Field(default=0.0, ge=0, description="cross-entropy where the user clicked")
    inner: float = Field(
        default=1.0, ge=0, description="bce: weight of a pixel of any class but the first (tumour)"
    )
    boundary_form: Literal["kervadec", "hausdorff"] = "kervadec"


class OptimiserSection(Section):
    """Optimiser and schedule."""

    kind: Literal["adam", "adamw"] = "adam"
    rate: float = Field(default=5e-4, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    warmup_steps: int = Field(default=0, ge=0)
    cosine: bool = False
    clip: float = Field(default=1.0, gt=0, description="largest norm of the gradient")


class AugmentSection(Section):
    """Ranges of random changes and shares of images; see augment.py, blobs.py and nothing.py in data."""

    rotation_degrees: float = Field(default=15.0, ge=0, le=180)
    flip: bool = True
    crop: float = Field(default=0.75, gt=0, le=1)
    enlarge: float = Field(default=1.1, ge=1)
    gain: float = Field(default=0.15, ge=0, lt=1)
    shear_degrees: float = Field(default=0.0, ge=0, le=45)
    shift: float = Field(default=0.0, ge=0, le=0.5, description="share of the square")
    operations: int = Field(default=0, ge=0, description="kinds of change (RandAugment); 0: all")
    zoom_chance: Share = Field(default=0.0, description="share seen close up around an object")
    tone_chance: Share = Field(default=0.0, description="share of images with a random tone curve")
    speckle: float = Field(default=0.0, ge=0, le=0.5, description="strongest multiplied noise")
    blob_chance: Share = Field(default=0.0, description="share with a made-up object alone")
    nothing_chance: Share = Field(default=0.0, description="share of speckle, nothing in it")


PromptName = Literal["box", "points", "clicks", "automatic"]


class TrainingSection(Section):
    """What adapting and distilling share."""

    prompts: tuple[PromptName, ...] = Field(
        default=("box", "points", "automatic"),
        min_length=1,
        description="trained together (clicks: a box or a point, then clicks); twice counts twice",
    )
    zoom: float | None = Field(
        default=None, ge=1, le=8, description="answer boxes from a square of so many times the box"
    )
    epochs: int = Field(default=15, ge=0)
    batch_size: int = Field(default=16, ge=1)
    balance: float = Field(
        default=1.0, ge=0, le=1, description="share of a store: its size to this power; 0: equal"
    )
    images_per_epoch: int | None = Field(
        default=None, ge=1, description="fewer or more than there are; by the same shares"
    )
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    loss: LossSection = LossSection()
    optimiser: OptimiserSection = OptimiserSection()
    augment: AugmentSection = AugmentSection()

    @model_validator(mode="after")
    def _prompts_fit_the_rest(self) -> Self:
        if self.augment.blob_chance and set(self.prompts) == {"automatic"}:
            raise ValueError("augment.blob_chance teaches box, points, clicks: name one in prompts")
        if self.augment.nothing_chance and "automatic" not in self.prompts:
            raise ValueError("augment.nothing_chance teaches automatic: name it in prompts")
        if self.loss.clicked and not {"points", "clicks"} & set(self.prompts):
            raise ValueError("loss.clicked needs clicks: name points or clicks in prompts")
        if self.zoom is not None and "clicks" in self.prompts:
            raise ValueError("clicks are of the whole image: leave zoom or clicks in prompts out")
        return self


class IntensitySection(Section):
    """What is done to values before the network sees them; the card keeps it for prediction."""

    window: str | tuple[float, float] | None = Field(
        default=None, description="CT: name of a window, or [centre, width] in Hounsfield units"
    )
    clahe: float | None = Field(
        default=None,
        gt=0,
        le=40,
        description="contrast-limited histogram equalisation; its clip limit, 2 to 4",
    )
    slices: Literal[1, 3] = Field(
        default=1, description="3: the slices before and after are channels too (2.5-D)"
    )


class ClassesSection(Section):
    """The classes that automatic mode tells apart."""

    names: tuple[str, ...] = Field(
        default=(), description="as the stores name them; none: all labels are one object"
    )
    nested: bool = Field(default=False, description="each class lies inside the one before it")


DecoderPart = bool | Literal["last"]


class AdaptRecipe(Section):
    """Recipe of `samling adapt`."""

    name: str
    seed: int = Field(default=0, ge=0)
    intensity: IntensitySection = IntensitySection()
    classes: ClassesSection = ClassesSection()
    adapter: AdapterSection = AdapterSection()
    train_decoder: DecoderPart = Field(
        default=False, description="tune the mask decoder too; last: what follows its transformer"
    )
    train_encoder: bool = Field(default=False, description="full fine-tuning, for comparison")
    fusion: bool = Field(
        default=False, description="new skips from all levels of the encoder into the decoder"
    )
    anatomy: bool = Field(
        default=False, description="automatic prompts made from the image, see models/anatomy.py"
    )
    groups: int | None = Field(
        default=None, ge=1, description="few-shot: train on so many patients, drawn by the seed"
    )
    training: TrainingSection = TrainingSection()

    @model_validator(mode="after")
    def _zoom_sees_one_slice(self) -> Self:
        if self.intensity.slices > 1 and (self.training.zoom or self.training.augment.zoom_chance):
            raise ValueError("intensity.slices 3 cannot be combined with zoom")
        return self


class NetworkSection(Section):
    """Which network is trained from scratch."""

    kind: str = Field(default="unet", description="see models/networks/registry.py: NETWORKS")
    width: int = Field(default=0, ge=0, le=256, description="channels it starts with; 0: as usual")
    input_size: int = Field(default=256, ge=32, le=1024, description="px, a multiple of 32")


class TrainRecipe(Section):
    """Recipe of `samling train`. With `box` among the prompts the network gets a second channel."""

    name: str
    seed: int = Field(default=0, ge=0)
    network: NetworkSection = NetworkSection()
    training: TrainingSection = TrainingSection(prompts=("box", "automatic"))


class EmbeddingSection(Section):
    """First stage of distillation: regress the teacher's embedding."""

    epochs: int = Field(default=10, ge=0)
    batch_size: int = Field(default=16, ge=1)
    flips: bool = Field(default=True, description="cache mirrored embeddings too")
    tone_chance: Share = Field(
        default=0.0, description="share the student sees with another tone curve"
    )
    mse: float = Field(default=1.0, ge=0, description="weight: squared error of the embedding")
    cosine: float = Field(default=1.0, ge=0, description="weight: its direction, cell by cell")
    levels: float = Field(default=0.0, ge=0, description="weight: deep supervision of every stage")
    supervise: Literal["outputs", "parts"] = Field(
        default="outputs", description="of a level: its output, or block, adapter and both (DSKD)"
    )
    masks: float = Field(
        default=0.0, ge=0, description="weight: masks of the teacher's decoder, prompts from labels"
    )
    optimiser: OptimiserSection = OptimiserSection(kind="adamw", rate=1e-3, cosine=True)


class DistillRecipe(Section):
    """Recipe of `samling distill`."""

    name: str
    seed: int = Field(default=0, ge=0)
    student: str = Field(default="light", description="see models/architectures.py: ARCHITECTURES")
    adapter: AdapterSection = Field(
        default=AdapterSection(kind="none"), description="adapters that are part of the student"
    )
    warm_start: bool = Field(
        default=True, description="start from LiteMedSAM's encoder where shapes fit"
    )
    embedding: EmbeddingSection = EmbeddingSection()
    decoder: TrainingSection = TrainingSection()
    tunes: Literal["both", "decoder", "encoder"] = Field(
        default="both",
        description="by the second stage; encoder: the mask decoder stays the teacher's",
    )


class Published(Section):
    """A figure from a paper, shown beside ours."""

    method: str
    source: str
    dice: float = Field(ge=0, le=1)
    iou: float | None = Field(default=None, ge=0, le=1)
    store: str = ""
    prompt: str = Field(default="not stated", description="as the source says it")


class ComparePlan(Section):
    """Plan of `samling compare`: methods x stores x prompts x seeds."""

    name: str
    stores: dict[str, str] = Field(min_length=1, description="name in tables: STORE.h5")
    folds: int | None = Field(
        default=None,
        ge=3,
        description="measure every store fold by fold, a method's {fold} on each",
    )
    methods: dict[str, str] = Field(
        default={},
        description="name in tables: run, bundle or known model; {seed}, {store}, {fold} are replaced",
    )
    baselines: tuple[str, ...] = Field(
        default=("fill the box", "ellipse in the box"), description="see evaluation/baselines.py"
    )
    prompts: tuple[str, ...] = Field(default=("box", "jitter10", "point1", "auto"), min_length=1)
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    split: Literal["val", "test"] = "val"
    mean: Literal["image", "patient"] = "image"
    reference: str = Field(default="", description="the method the others are tested against")
    published: tuple[Published, ...] = ()
    notes: tuple[str, ...] = Field(default=(), description="sentences beside the answer")


R = TypeVar("R", bound=Section)


def load_recipe(kind: type[R], recipe: str | Path, overrides: list[str]) -> R:
    """Read a recipe by library name or path, apply `a.b=value` overrides, validate.

    Raises:
        InputError: no such recipe, no YAML, unknown key, wrong type; names file and field.
    """
    path = find_recipe(recipe)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(
            path, f"is not YAML ({error})".replace("\n", " "), "mend the file"
        ) from None
    if not isinstance(content, dict):
        raise InputError(path, "is not a table of settings", "see samling recipes for examples")
    for override in overrides:
        _apply(content, override)
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise _mistake(kind, path, overrides, error) from None


def _mistake(
    kind: type[BaseModel], path: Path, overrides: list[str], error: ValidationError
) -> InputError:
    """The first mistake; an override is blamed for what it wrote, the file for the rest."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    typed = {given.partition("=")[0]: given for given in overrides}
    # `trainings.epochs=1` makes a section `trainings`; `prompts=[dot]` is wrong at `prompts.0`
    key = next((k for k in typed if f"{k}.".startswith(f"{field}.")), None)
    key = key or next((k for k in typed if field.startswith(f"{k}.")), None)
    where = typed[key] if key else f"{path} {field}"
    if not field:  # settings that do not go together: what was typed is likelier than the file
        where = " ".join(overrides) or str(path)
    if first["type"] == "literal_error":
        given, choices = first["input"], re.findall(r"'([^']*)'", first["ctx"]["expected"])
        return InputError(where, f"{given!r} is no choice", one_of(str(given), choices))
    if first["type"] != "extra_forbidden":
        return InputError(where, first["msg"], "give a value of that kind")
    said, known = key or field, settings_of(kind)
    last = said.rpartition(".")[2]
    elsewhere = [name for name in known if name.rpartition(".")[2] == last]
    nearest = meant(said, elsewhere or known)
    if elsewhere and not nearest:
        nearest = f"did you mean {' or '.join(elsewhere)}?"
    listed = "samling compare --help" if kind is ComparePlan else "samling recipes NAME"
    beside = ", ".join(_keys_beside(kind, first["loc"]))
    remedy = f"{nearest} Else see {listed}" if nearest else f"use one of {beside}"
    return InputError(where, f"{said} is no setting" if key else "is no setting", remedy)


def settings_of(kind: type[BaseModel], section: str = "") -> dict[str, str]:
    """Every setting of a recipe with its description: `training.optimiser.rate`, ..."""
    found: dict[str, str] = {}
    for name, field in kind.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= settings_of(inner, f"{section}{name}.")
        else:
            found[section + name] = field.description or ""
    return found


def _keys_beside(kind: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The settings that exist where an unknown one was given."""
    for name in location[:-1]:
        inner = kind.model_fields[str(name)].annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            kind = inner
    return list(kind.model_fields)


def save_recipe(recipe: Section) -> str:
    """The resolved recipe as YAML."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


def library() -> dict[str, Path]:
    """Recipes that come with samling: name -> file."""
    folder = Path(str(resources.files("samling") / "recipes" / "library"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_recipe(recipe: str | Path) -> Path:
    """The file of a recipe, by its name in the library or its path.

    Raises:
        InputError: there is none; says which there are.
    """
    known = library()
    if str(recipe) in known:
        return known[str(recipe)]
    path = Path(recipe)
    if not path.is_file():
        nearest = meant(str(recipe), known)
        remedy = (
            f"{nearest} Else see"
            if nearest
            else f"give a YAML file or one of {', '.join(known)}; see"
        )
        raise InputError(recipe, "no such recipe", f"{remedy} samling recipes")
    return path


def _apply(content: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise InputError(override, "is not key=value", "e.g. training.epochs=5")
    *sections, last = key.split(".")
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise InputError(override, f"{section} is not a section", "e.g. training.epochs=5")
    try:
        content[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise InputError(override, "the value is not YAML", "quote it") from None
