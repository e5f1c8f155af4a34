"""train: a network from scratch, the baseline that an adapted model has to beat."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from samling.atomic import atomic_path
from samling.config import TrainRecipe, load_recipe
from samling.data.batches import Planes
from samling.data.store import Store
from samling.errors import InputError
from samling.inference.card import Card, PromptKind
from samling.models.networks.network import Network
from samling.models.weights import load_strict, read_state, sha256_of_tensors
from samling.recipes.objective import TOGETHER, Answers
from samling.recipes.prompted_training import Report, calibrate, read_training, run_training
from samling.recipes.run_folder import draw_curves, open_run
from samling.training.checkpoint import locked
from samling.training.randomness import seed_weights

ABILITIES: tuple[PromptKind, ...] = ("box", "automatic")


def train(
    recipe: str | Path,
    stores: list[Path],
    out: Path,
    overrides: list[str] | None = None,
    *,
    report: Report = print,
) -> Path:
    """Train a network on the training cases of `stores`; their validation cases choose the epoch.

    The same loop, augmentation and validation as `adapt`. The run folder gets network.safetensors and
    network.json beside config.yaml, metrics.jsonl, checkpoint.pt and curves.png; it is a model
    wherever one is named. An interrupted run goes on where it stopped.

    Raises:
        InputError: bad recipe or store; no cases; a prompt that a network cannot take; `out` holds a
            run of other settings.
    """
    settings = load_recipe(TrainRecipe, recipe, overrides or [])
    check_prompts(settings)
    opened = [Store.open(path) for path in stores]
    seed_weights(settings.seed)
    boxes = "box" in settings.training.prompts
    model = Network(
        settings.network.kind,
        width=settings.network.width,
        boxes=boxes,
        input_size=settings.network.input_size,
    )
    card = _card(settings, model, opened)
    data = read_training(opened, settings.network.input_size)
    with locked(out):
        open_run(out, settings, opened, card)
        _train(settings, data, _Learner(model), card, out, report)
        draw_curves(out)
    return out


def check_prompts(settings: TrainRecipe) -> None:
    """Refuse kinds of prompt that no network takes.

    Raises:
        InputError: naming the first.
    """
    if other := sorted(set(settings.training.prompts) - set(ABILITIES)):
        remedy = f"use {' and '.join(ABILITIES)}"
        raise InputError("training.prompts", f"a network takes no {other[0]}", remedy)


@dataclass
class _Learner:
    """Every weight and every running mean of a network; see `prompted_training.Learner`."""

    model: Network
    answers: Answers = TOGETHER
    learns_norms = True

    def parameters(self) -> list[torch.nn.Parameter]:
        return list(self.model.parameters())

    def state(self) -> dict[str, Tensor]:
        return {k: v.detach().clone() for k, v in self.model.state_dict().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        load_strict(self.model, state, "checkpoint")


def _train(
    settings: TrainRecipe,
    data: tuple[Planes, Planes],
    learner: _Learner,
    card: Card,
    out: Path,
    report: Report,
) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    learner.model.to(device)
    count = sum(weight.numel() for weight in learner.parameters())
    report(f"training {settings.network.kind}, {count:,} weights, on {device.type}")
    save_best = partial(_save, out, learner.model, card)
    run_training(
        learner, settings.training, data, out,
        seed=settings.seed, report=report, save_best=save_best,
    )  # fmt: skip
    if not settings.training.epochs:
        save_best()
        return
    path = out / "network.safetensors"
    learner.load_state(read_state(path))
    cut = calibrate(learner, settings.training, data[1], seed=settings.seed, report=report)
    Card.read(out / "network.json").model_copy(update={"mask_threshold": cut}).save(
        out / "network.json"
    )


def _card(settings: TrainRecipe, model: Network, stores: list[Store]) -> Card:
    made: dict[str, int | str | bool] = {
        "kind": model.kind,
        "width": model.width,
        "boxes": model.boxes,
    }
    return Card(
        name=settings.name,
        base="none",
        base_sha256="from scratch",
        architecture=model.kind,
        input_size=model.input_size,
        embedding_size=model.embedding_size,
        zoom=settings.training.zoom,
        prompts=tuple(kind for kind in ABILITIES if kind in settings.training.prompts),
        classes=stores[0].classes if len({s.classes for s in stores}) == 1 else ("object",),
        split_hash="+".join(store.splits.hash for store in stores),
        trained_on=tuple(store.name for store in stores),
        licence=f"data {', '.join(store.licence for store in stores)}",
        network=made,
    )


def _save(out: Path, model: Network, card: Card) -> None:
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    with atomic_path(out / "network.safetensors") as temporary:
        temporary.write_bytes(save(state))
    card.model_copy(update={"base_sha256": sha256_of_tensors(state)}).save(out / "network.json")
