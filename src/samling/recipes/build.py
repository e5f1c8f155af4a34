"""From configuration to objects: bases, adapters, what is trained. The only registry."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from samling.adapters.bottleneck import LRAdapter, SerialAdapter
from samling.adapters.ch_adapter import inject_ch
from samling.adapters.injection import InPlace, inject, select_sites
from samling.adapters.lora import inject_lora
from samling.atomic import atomic_path
from samling.cache import LITEMEDSAM_SHA256, weights_path
from samling.config import AdapterSection, DecoderPart
from samling.errors import InputError, one_of
from samling.inference.card import Card
from samling.models.architectures import ARCHITECTURES
from samling.models.checkpoints import load_published
from samling.models.families import FAMILIES, Reference, no_run, refer
from samling.models.key_maps import litemedsam_state
from samling.models.networks.network import Network
from samling.models.sam import Sam
from samling.models.tiny_vit import fold_norms
from samling.models.vit import GatedAdapter
from samling.models.weights import (
    load_strict,
    read_state,
    sha256_of,
    sha256_of_tensors,
    warm_start,
)
from samling.recipes.identity import SHIPPED, place_of
from samling.recipes.network import load_network
from samling.recipes.objective import TOGETHER, Answers
from samling.training.randomness import seed_weights

CLOSER = 3.0
"""`base-zoom` looks again at a square of so many times the box."""
ENCODER_WEIGHTS = ("image_encoder.", "skips.")
AUTOMATIC_WEIGHTS = ("prompt_encoder.automatic.", "presence.")
"""Weights of automatic mode: no published base has them, so every adaptation trains them."""
NEW_LAYERS = ("fusion.", "anatomy.")
_LAST_LAYERS = tuple(
    f"mask_decoder.{part}"
    for part in ("upscale_", "output_hypernetworks_mlps.", "iou_prediction_head.")
)
"""Of the mask decoder: what follows its transformer."""


@dataclass
class Base:
    """A frozen base: the model, its card, and the hash that adapters are bound to."""

    model: Sam
    card: Card

    @property
    def sha256(self) -> str:
        """Hash of the base's weights."""
        return self.card.base_sha256


def load_base(name: str | Path) -> Base:
    """A named base, or the folder of a distilled one.

    `base`: the light base that comes with samling. `base-tiny`: a tiny, faster encoder before the
    same mask decoder (docs/results/trade-off.md). `base-zoom`: the base's weights; boxes are answered from
    a second, closer look (docs/results/base.md). `litemedsam`: as published, box prompts only.
    `light`: the light encoder, started from LiteMedSAM in every layer whose shape fits, not trained
    yet: what `distill` begins with. `untrained`: the light model with random weights. A checkpoint of
    the SAM family as its authors publish it: see `samling.models.checkpoints.refer`.

    Raises:
        InputError: unknown name, weights not fetched, damaged or altered weights.
    """
    if str(name) == "litemedsam":
        return _litemedsam()
    if str(name) in ("light", "untrained"):
        return new_base("light", warm=str(name) == "light", name=str(name))
    if (reference := refer(str(name))) is not None:
        return _published(reference, str(name))
    base = _distilled(str(name))
    if str(name) != "base-zoom":
        return base
    changes = {"name": "base-zoom", "zoom": CLOSER, "calibration": None}  # measured without
    return Base(base.model, base.card.model_copy(update=changes))


def _distilled(name: str) -> Base:
    """A base that `distill` made, by name or folder; its hash is checked."""
    folder = place_of(name)
    if not (folder / "base.json").is_file():
        raise no_run(folder, name)
    card = Card.read(folder / "base.json")
    state = read_state(folder / "base.safetensors")
    if folder.resolve() == SHIPPED["base-tiny"].resolve():
        shared = read_state(SHIPPED["base"] / "base.safetensors")
        state = {k: v for k, v in shared.items() if not k.startswith(ENCODER_WEIGHTS)} | state
    if sha256_of_tensors(state) != card.base_sha256:
        remedy = "install samling again" if name in SHIPPED else "distill again"
        raise InputError(folder / "base.safetensors", "was altered since it was made", remedy)
    model = _sam(card.architecture, folder / "base.json", card.input_size)
    if not any(".bn." in key for key in state):  # distill folds them before its second stage
        fold_norms(model)
    if card.own_adapter:
        inject_section(model, AdapterSection.model_validate(card.own_adapter))
    load_strict(model, state, str(folder / "base.safetensors"))
    return Base(model.eval(), card.model_copy(update={"base": name}))


def _published(reference: Reference, name: str) -> Base:
    """A checkpoint of the SAM family, with a card that feeds it as its authors do."""
    model, family_name = load_published(reference)
    family = FAMILIES[family_name]
    card = _card(family_name, model, family.prompts, family.licence)
    changes = {
        "base": name,
        "fit": family.fit,
        "padding": family.padding,
        "token_padding": family.token_padding,
    }
    return Base(model, card.model_copy(update=changes))


def _litemedsam() -> Base:
    model = Sam("full", automatic=False)
    state = _published_litemedsam()
    load_strict(model, state, "litemedsam", new=("prompt_encoder.automatic.",))
    model.prompt_encoder.automatic.weight.data.zero_()  # unused, but part of the hash
    return Base(model.eval(), _card("litemedsam", model, ("box",), "Apache-2.0"))


def _published_litemedsam() -> dict[str, Tensor]:
    """The fetched weights in our names, their hash verified."""
    path = weights_path("litemedsam")
    if sha256_of(path) != LITEMEDSAM_SHA256:
        raise InputError(path, "is not LiteMedSAM as published", "run `samling fetch litemedsam`")
    return litemedsam_state(read_state(path))


def new_base(architecture: str, *, warm: bool, name: str = "light") -> Base:
    """A model that is not trained yet: seeded weights, `warm` those of LiteMedSAM where shapes fit.

    Raises:
        InputError: no such architecture, or LiteMedSAM's weights are not here.
    """
    seed_weights(0)
    model = _sam(architecture, "student")
    if warm:
        warm_start(model, _published_litemedsam())
    else:
        _spread_positions(model)
    return Base(model.eval(), _card(name, model, (), "Apache-2.0"))


def _sam(architecture: str, where: str | Path, input_size: int = 256) -> Sam:
    if architecture not in ARCHITECTURES:
        problem = f"names an encoder unknown here, {architecture}"
        raise InputError(where, problem, one_of(architecture, ARCHITECTURES))
    return Sam(architecture, input_size).eval()


def _spread_positions(model: Sam) -> None:
    """Transformers leaves some decoder weights at PyTorch's defaults; tokens need a visible size."""
    for embedding in (model.mask_decoder.iou_token, model.mask_decoder.mask_tokens):
        nn.init.normal_(embedding.weight, std=0.5)


def _card(name: str, model: Sam, prompts: tuple[str, ...], licence: str) -> Card:
    sha = sha256_of_tensors(model.state_dict())
    return Card.model_validate(
        {
            "name": name,
            "base": name,
            "base_sha256": sha,
            "architecture": model.architecture,
            "input_size": model.input_size,
            "embedding_size": model.embedding_size,
            "prompts": prompts,
            "licence": licence,
        }
    )


def save_base(folder: Path, model: Sam, card: Card) -> None:
    """Write base.safetensors and base.json, with the hash of the weights; a calibration of these stays."""
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    with atomic_path(folder / "base.safetensors") as temporary:
        temporary.write_bytes(save(state))
    path = folder / "base.json"
    card = card.model_copy(update={"base_sha256": sha256_of_tensors(state)})
    there = Card.read(path) if path.is_file() else card
    same = there.model_copy(update={"calibration": card.calibration}) == card
    (there if same else card).save(path)


def adapter_maker(section: AdapterSection) -> Callable[[int], nn.Module]:
    """A function from width d to a new adapter; the rank is clamped to min(d, r), see LRAdapter."""

    def make(width: int) -> nn.Module:
        bottleneck = max(1, width // section.reduction)
        if section.kind == "serial":
            return SerialAdapter(width, bottleneck)
        if section.kind == "med2d":
            return _gated(width)
        return LRAdapter(width, bottleneck, min(section.rank, bottleneck), tied=section.tied)

    return make


def _gated(width: int) -> nn.Module:
    """SAM-Med2D's adapter, zero at initialisation: its last norm would change the base at once."""
    adapter = GatedAdapter(width)
    nn.init.zeros_(adapter.norm.weight)
    return adapter


def inject_section(model: Sam, section: AdapterSection) -> InPlace:
    """The adapter of a recipe, at the sites it names.

    Raises:
        InputError: the model has no such site, or the kind cannot go there.
    """
    sites = select_sites(model.sites, section.sites)
    if section.kind == "lora":
        return inject_lora(model, sites, rank=section.rank)
    if section.kind != "ch":
        return inject(model, sites, adapter_maker(section), section.placement)
    return inject_ch(
        model,
        model.sites["block"][0],
        sites,
        reduction=section.reduction,
        form=section.edges,
        placement=section.placement,
    )


@dataclass
class Trainee:
    """A base with an adapter in place: what is trained, saved and loaded.

    Args:
        model: the base, frozen but for what is trained.
        injection: the adapter, None for none.
        extra: names of weights outside the adapter that are trained too.
        answers: the masks that automatic mode gives.
    """

    model: Sam
    injection: InPlace | None
    extra: list[str] = field(default_factory=list)
    answers: Answers = TOGETHER
    learns_norms = False  # batch norms of a frozen base stay as they are

    def parameters(self) -> list[nn.Parameter]:
        """Everything the optimiser changes."""
        named = dict(self.model.named_parameters())
        own = [named[name] for name in self._current_names()]
        return own + (self.injection.parameters() if self.injection else [])

    def state(self) -> dict[str, Tensor]:
        """The trained weights: `adapter.<site>...` and `model.<name>`."""
        named = dict(self.model.named_parameters())
        state = {
            f"model.{name}": named[current].detach().clone()
            for name, current in zip(self.extra, self._current_names(), strict=True)
        }
        if self.injection:
            adapter = self.injection.state_dict()
            state |= {f"adapter.{key}": value.clone() for key, value in adapter.items()}
        return state

    def load_state(self, state: dict[str, Tensor], where: str = "adapter") -> None:
        """Put trained weights back, strictly.

        Raises:
            InputError: a key is missing or surplus or a shape differs.
        """
        own = self.state()
        wrong = sorted(set(own) ^ set(state))
        wrong += [key for key in own if key in state and own[key].shape != state[key].shape]
        if wrong:
            problem = f"its weights do not fit: {', '.join(wrong[:6])}"
            raise InputError(where, problem, "load it with the recipe that made it")
        if self.injection:
            prefix = "adapter."
            adapter = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            self.injection.load_state_dict(adapter, where)
        named = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, current in zip(self.extra, self._current_names(), strict=True):
                named[current].copy_(state[f"model.{name}"])

    def _current_names(self) -> list[str]:
        """Names of `extra` while adapters are in place."""
        if self.injection is None:
            return self.extra
        return [self.injection.current_name(name) for name in self.extra]


@dataclass(frozen=True)
class NewLayers:
    """What a recipe adds to a base; see `Sam.extend`."""

    answers: Answers = TOGETHER
    fusion: bool = False
    anatomy: bool = False

    def __bool__(self) -> bool:
        """Whether there is anything new."""
        return len(self.answers.names) > 1 or self.fusion or self.anatomy


def trainee(
    model: Sam,
    section: AdapterSection,
    *,
    seed: int = 0,
    train_decoder: DecoderPart = False,
    train_encoder: bool = False,
    layers: NewLayers = NewLayers(),
) -> Trainee:
    """Freeze `model`, add new layers, inject the adapter, thaw what is trained with it.

    Beside an adapter, a frozen encoder gets its batch norms folded: it computes the same, faster.
    Without one nothing is folded: such a model may be saved whole afterwards.
    """
    seed_weights(seed)
    classes = len(layers.answers.names)
    model.extend(classes=classes, fusion=layers.fusion, anatomy=layers.anatomy)
    prefixes = [*AUTOMATIC_WEIGHTS, *NEW_LAYERS]
    if train_decoder == "last":
        prefixes += [*_LAST_LAYERS, "skips."]
    elif train_decoder:
        prefixes += ["mask_decoder.", "prompt_encoder.", "skips."]
    prefixes += ENCODER_WEIGHTS if train_encoder else ()
    extra = [name for name, _ in model.named_parameters() if name.startswith(tuple(prefixes))]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in set(extra))
    if section.kind == "none":
        return Trainee(model, None, extra, layers.answers)
    if not train_encoder:
        fold_norms(model.eval())
    seed_weights(seed)  # an adapter starts alike, with or without new layers
    return Trainee(model, inject_section(model, section), extra, layers.answers)


def load_torch(model: str | Path) -> tuple[Sam | Network, Card]:
    """A base by name, a distilled base, an adapted run or a trained network, ready to predict.

    Raises:
        InputError: unknown, damaged, or the adapter belongs to another base (both are named).
    """
    folder = Path(model)
    if (folder / "network.json").is_file():
        return load_network(folder)
    if not (folder / "adapter.json").is_file():
        base = load_base(model)
        return base.model, base.card
    card = Card.read(folder / "adapter.json")
    base = load_base(_base_of(folder, card))
    if base.sha256 != card.base_sha256:
        problem = (
            f"was trained on base {card.base} with hash {card.base_sha256[:12]}, "
            f"but {base.card.base} has hash {base.sha256[:12]}"
        )
        remedy = "train it again, or use it with the samling that brought that base"
        raise InputError(folder / "adapter.json", problem, remedy)
    section, decoder, encoder, layers = trained_parts(card)
    adapted = trainee(
        base.model, section, train_decoder=decoder, train_encoder=encoder, layers=layers
    )
    path = folder / "adapter.safetensors"
    adapted.load_state(read_state(path), str(path))
    return adapted.model.eval(), card


def trained_parts(card: Card) -> tuple[AdapterSection, DecoderPart, bool, NewLayers]:
    """What a run trained, as its card says: adapter, decoder, encoder, new layers."""
    settings = dict(card.adapter or {})
    decoder = settings.pop("train_decoder", False)
    encoder = bool(settings.pop("train_encoder", False))
    fusion, anatomy = (bool(settings.pop(name, False)) for name in ("fusion", "anatomy"))
    names = TOGETHER.names if card.automatic == "together" else card.classes
    layers = NewLayers(Answers(names, card.automatic == "nested"), fusion, anatomy)
    section = AdapterSection.model_validate(settings)
    return section, "last" if decoder == "last" else bool(decoder), encoder, layers


def _base_of(folder: Path, card: Card) -> str:
    """Where the base is: as named, or relative to the run."""
    for candidate in (Path(card.base), folder / card.base):
        if (candidate / "base.json").is_file():
            return str(candidate)
    return card.base
