"""adapt: train an adapter on prepared stores, validate every epoch, keep the best, resume."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from samling.atomic import write_text
from samling.config import AdaptRecipe, Section, TrainingSection, load_recipe, save_recipe
from samling.data.augment import Augmentation, augment
from samling.data.batches import Planes, epoch_batches, read_planes
from samling.data.store import Store
from samling.errors import InputError
from samling.inference.card import Card
from samling.adapters.injection import save_adapter
from samling.models.contract import Embedding
from samling.models.sam import Sam
from samling.prompts.prompt import Prompt
from samling.prompts.sampling import simulate
from samling.recipes.build import Base, Trainee, load_base, trainee
from samling.recipes.objective import dice_scores, prompted_terms, to_tokens, weighted_sum
from samling.training.checkpoint import locked
from samling.training.log import environment
from samling.training.loop import Schedule, Task, Terms, best_precision, fit, precision
from samling.training.randomness import generator

Report = Callable[[str], None]
VALIDATION_PROTOCOLS = {"box": "box", "points": "point1", "automatic": "auto"}
VALIDATION_BATCH = 32


def adapt(
    recipe: str | Path,
    stores: list[Path],
    out: Path,
    base: str = "light",
    overrides: list[str] | None = None,
    *,
    report: Report = print,
) -> Path:
    """Train an adapter on the training cases of `stores`, choose the epoch on their validation cases.

    The run folder `out` gets config.yaml, environment.json, metrics.jsonl, checkpoint.pt,
    adapter.safetensors, adapter.json and curves.png. An interrupted run goes on where it stopped.

    Returns:
        The run folder.

    Raises:
        InputError: bad recipe, store or base; `out` holds a run of other settings.
    """
    settings = load_recipe(AdaptRecipe, recipe, overrides or [])
    opened = [Store.open(path) for path in stores]
    foundation = load_base(base)
    with locked(out):
        open_run(out, settings, opened, foundation.card)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        adapted = trainee(
            foundation.model.to(device),
            settings.adapter,
            seed=settings.seed,
            train_decoder=settings.train_decoder,
            train_encoder=settings.train_encoder,
        )
        count = sum(p.numel() for p in adapted.parameters())
        report(f"training {count:,} weights on {device.type}")
        size = foundation.model.input_size
        train = read_planes([(store, store.splits.train) for store in opened], size)
        val = read_planes([(store, store.splits.val) for store in opened], size)
        if not len(train) or not len(val):
            raise InputError(stores[0], "has no training or no validation case", "prepare more images")
        card = adapted_card(settings, foundation, opened)
        run_training(
            adapted, settings.training, train, val, out,
            seed=settings.seed, report=report, save_best=partial(_save, out, adapted, card),
        )  # fmt: skip
        draw_curves(out)
    return out


def run_training(
    adapted: Trainee,
    settings: TrainingSection,
    train: Planes,
    val: Planes,
    out: Path,
    *,
    seed: int,
    report: Report,
    save_best: Callable[[], None],
) -> None:
    """Prompted training of whatever `adapted` leaves trainable; batch norms stay as they are."""
    model = adapted.model.eval()
    parameters = adapted.parameters()
    device = parameters[0].device
    kind = settings.precision if settings.precision != "auto" else best_precision(device)
    steps = -(-len(train) // settings.batch_size)
    report(f"{len(train)} training and {len(val)} validation images, {steps} steps an epoch, {kind}")
    task = Task(
        epoch_steps=partial(_epoch_steps, model, settings, train, seed, device, kind),
        validate=partial(validate, model, settings, val, seed, device, kind),
        state=adapted.state,
        load_state=adapted.load_state,
        save_best=save_best,
        parameters=parameters,
    )
    options = settings.optimiser
    make = torch.optim.Adam if options.kind == "adam" else torch.optim.AdamW
    optimizer = make(parameters, lr=options.rate, weight_decay=options.weight_decay)
    total = steps * settings.epochs
    schedule = Schedule(options.rate, total, options.warmup_steps, options.cosine)
    fit(task, optimizer, schedule, out, epochs=settings.epochs, progress=report)


def _epoch_steps(
    model: Sam,
    settings: TrainingSection,
    planes: Planes,
    seed: int,
    device: torch.device,
    kind: str,
    epoch: int,
) -> Iterator[Callable[[], tuple[Terms, int]]]:
    order = generator(seed, "order", epoch)
    for number, indices in enumerate(epoch_batches(len(planes), settings.batch_size, order)):
        rng = generator(seed, "step", epoch, number)
        yield partial(_step, model, settings, planes, indices, rng, device, kind)


def _step(
    model: Sam,
    settings: TrainingSection,
    planes: Planes,
    indices: np.ndarray,
    rng: np.random.Generator,
    device: torch.device,
    kind: str,
) -> tuple[Terms, int]:
    """Augment, encode once, decode for every prompt kind; terms are means over the kinds."""
    images, labels = (tensor.to(device) for tensor in planes.tensors(indices))
    plan = Augmentation(**settings.augment.model_dump())
    images, labels = augment(images, labels, plan, rng)
    with precision(kind, device):
        embedding = model.encode(images)
        parts = [
            terms
            for prompts in settings.prompts
            if (terms := prompted_terms(model, embedding, labels, prompts, settings.loss, rng))
        ]
    names = dict.fromkeys(name for part in parts for name in part)
    means = {
        name: torch.stack([part[name] for part in parts if name in part]).mean() for name in names
    }
    total = torch.stack([weighted_sum(part, settings.loss) for part in parts]).mean()
    return means | {"total": total}, len(indices)


@torch.no_grad()
def validate(
    model: Sam,
    settings: TrainingSection,
    planes: Planes,
    seed: int,
    device: torch.device,
    kind: str,
) -> dict[str, float]:
    """Mean Dice at model size per prompt kind, their mean as `score`; the same prompts every time.

    Box and points: the largest component alone. Automatic: the union, empty images included.
    """
    sums: dict[str, list[float]] = {VALIDATION_PROTOCOLS[name]: [] for name in settings.prompts}
    for start in range(0, len(planes), VALIDATION_BATCH):
        indices = np.arange(start, min(start + VALIDATION_BATCH, len(planes)))
        images, labels = (tensor.to(device) for tensor in planes.tensors(indices))
        with precision(kind, device):
            embedding = model.encode(images)
            for protocol, scores in sums.items():
                rng = generator(seed, f"validate {protocol}", step=start)
                scores += _validate_batch(model, embedding, labels, protocol, rng)
    means = {name: float(np.mean(scores)) if scores else 0.0 for name, scores in sums.items()}
    return means | {"score": float(np.mean(list(means.values())))}


def _validate_batch(
    model: Sam, embedding: Embedding, labels: torch.Tensor, protocol: str, rng: np.random.Generator
) -> list[float]:
    size = labels.shape[-1]
    if protocol == "auto":
        decoded = model.decode(embedding, to_tokens([Prompt()] * len(labels), size, labels.device))
        logits = decoded.masks
        if embedding.presence is not None:
            nothing = (embedding.presence < 0).view(-1, 1, 1, 1)
            logits = logits.masked_fill(nothing, -1.0)
        return dice_scores(logits, labels).tolist()
    planes = labels.cpu().numpy() > 0.5
    prompts = {index: simulate(plane, protocol, rng) for index, plane in enumerate(planes)}
    keep = [index for index, found in prompts.items() if found]
    if not keep:
        return []
    tokens = to_tokens([prompts[index][0] for index in keep], size, labels.device)
    decoded = model.decode(Embedding(embedding.image[keep], None), tokens)
    return dice_scores(decoded.masks, _largest(labels[keep])).tolist()


def _largest(labels: torch.Tensor) -> torch.Tensor:
    from samling.prompts.sampling import components  # noqa: PLC0415

    planes = [components(plane)[0] for plane in labels.cpu().numpy() > 0.5]
    return torch.from_numpy(np.stack(planes)).to(labels)


def open_run(out: Path, settings: Section, stores: list[Store], base: Card) -> None:
    """Write config.yaml and environment.json, or check that they belong to the same run.

    Raises:
        InputError: `out` holds a run of other settings, other data or another base.
    """
    config = save_recipe(settings)
    data = {store.name: store.content_hash for store in stores}
    about = {"data": data, "base": base.name, "base_sha256": base.base_sha256}
    if (out / "config.yaml").exists() and (out / "environment.json").exists():
        before = json.loads((out / "environment.json").read_text(encoding="utf-8"))
        same = (out / "config.yaml").read_text(encoding="utf-8") == config
        if not same or any(before.get(key) != value for key, value in about.items()):
            remedy = "choose another --out, or delete that folder"
            raise InputError(out, "holds a run of other settings, data or base", remedy)
        return
    write_text(out / "environment.json", json.dumps(environment() | about, indent=2) + "\n")
    write_text(out / "config.yaml", config)


def adapted_card(settings: AdaptRecipe, base: Base, stores: list[Store]) -> Card:
    """The card of an adapted run."""
    names = {"box": "box", "points": "points", "automatic": "automatic"}
    flags = {"train_decoder": settings.train_decoder, "train_encoder": settings.train_encoder}
    changes = {
        "name": settings.name,
        "prompts": tuple(names[prompt] for prompt in settings.training.prompts),
        "classes": stores[0].classes,
        "split_hash": "+".join(store.splits.hash for store in stores),
        "trained_on": tuple(store.name for store in stores),
        "licence": f"base {base.card.licence}; data {', '.join(store.licence for store in stores)}",
        "adapter": settings.adapter.model_dump(mode="json") | flags,
    }
    return Card.model_validate(base.card.model_dump() | changes)


def draw_curves(out: Path) -> None:
    """Loss and Dice over epochs as out/curves.png."""
    from samling.evaluation.curves import draw_curves as draw  # noqa: PLC0415 - matplotlib

    draw(out / "metrics.jsonl", out / "curves.png")


def _save(out: Path, adapted: Trainee, card: Card) -> None:
    save_adapter(out / "adapter.safetensors", adapted.state())
    card.save(out / "adapter.json")
