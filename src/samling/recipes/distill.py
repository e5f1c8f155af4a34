"""distill: teach a light encoder a teacher's embedding, then tune it with prompts in the loop."""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from samling.cache import cache_folder
from samling.config import AdapterSection, DistillRecipe, EmbeddingSection, load_recipe
from samling.data.batches import Planes, epoch_batches
from samling.data.store import Store
from samling.distillation.cache import EmbeddingCache
from samling.distillation.decoupled import embedding_terms
from samling.errors import InputError
from samling.inference.card import Card
from samling.models.sam import Sam
from samling.models.tiny_vit import fold_norms
from samling.models.weights import sha256_of_tensors
from samling.recipes.build import load_torch, new_base, save_base, trainee
from samling.recipes.prompted_training import Report, read_training, run_training, trained_prompts
from samling.recipes.run_folder import draw_curves, open_run
from samling.training.checkpoint import locked, read_checkpoint, save_checkpoint
from samling.training.loop import Schedule, Task, Terms, best_precision, fit, precision
from samling.training.randomness import generator


def distill(
    recipe: str | Path,
    stores: list[Path],
    teacher: str,
    out: Path,
    overrides: list[str] | None = None,
    *,
    report: Report = print,
) -> Path:
    """Distil `teacher` into the light model on the training cases of `stores`.

    Stage 1 (`out`/embedding) needs no labels: the student's embedding is regressed on the teacher's,
    cached once. Stage 2 (`out`/decoder) tunes with simulated prompts. The result is a base:
    base.safetensors and base.json. An interrupted run goes on where it stopped.

    Returns:
        The run folder, usable as `--base`.

    Raises:
        InputError: bad recipe, store or teacher; no cases; `out` holds a run of other settings.
    """
    settings = load_recipe(DistillRecipe, recipe, overrides or [])
    opened = [Store.open(path) for path in stores]
    master, master_card = load_torch(teacher)
    # Of an adapted teacher the card names the base's hash; the cache must know the adapter too
    whole = sha256_of_tensors(master.state_dict())
    master_card = master_card.model_copy(update={"base_sha256": whole})
    with locked(out):
        open_run(out, settings, opened, master_card)
        student = new_base(settings.student, warm=settings.warm_start)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = student.model.to(device)
        train, val = read_training(opened, model.input_size)
        cache = EmbeddingCache(cache_folder() / "embeddings", whole, model.embedding_size)
        flips = settings.embedding.flips
        fill_cache(cache, master.to(device), train, val, flips=flips, report=report)
        regress(model, cache, settings, train, val, out, report)
        tune(model, settings, train, val, out, report)
        card = _card(settings, student.card, master_card, opened)
        save_base(out, model, card)
        draw_curves(out / "decoder")
        if settings.decoder.epochs:
            shutil.copyfile(out / "decoder" / "curves.png", out / "curves.png")
    return out


def fill_cache(
    cache: EmbeddingCache,
    master: Sam,
    train: Planes,
    val: Planes,
    *,
    flips: bool,
    report: Report,
) -> None:
    """Compute the teacher's embeddings that are missing; with `flips` of mirrored training images too."""
    device = next(master.parameters()).device
    images = [train.images, val.images]
    if flips:
        images.append(train.images[:, :, ::-1])
    planes = np.ascontiguousarray(np.concatenate(images))
    report(f"teacher embeddings of {len(planes)} images (cached ones are kept)")
    encode = partial(_encode, master.eval(), best_precision(device), device)
    cache.fill(planes, encode, advance=_announce(report))


def regress(
    model: Sam,
    cache: EmbeddingCache,
    settings: DistillRecipe,
    train: Planes,
    val: Planes,
    out: Path,
    report: Report,
) -> None:
    """Stage 1: train the encoder on the cached embeddings; `model` ends with its best weights."""
    section, encoder = settings.embedding, model.image_encoder
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("image_encoder."))
    options, parameters = section.optimiser, list(encoder.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=options.rate, weight_decay=options.weight_decay)
    total = -(-len(train) // section.batch_size) * section.epochs
    schedule = Schedule(options.rate, total, options.warmup_steps, options.cosine)
    kind = best_precision(parameters[0].device)
    best: dict[str, Tensor] = {}
    task = Task(
        epoch_steps=partial(_regression_steps, model, settings, train, cache, kind),
        validate=partial(_cosine_score, model, val, cache, kind),
        state=lambda: {**_clone(encoder), **_prefixed(best)},
        load_state=partial(_restore, encoder, best),
        save_best=lambda: best.update(_clone(encoder)),
        parameters=parameters,
    )
    folder = out / "embedding"
    folder.mkdir(exist_ok=True)
    fit(
        task, optimizer, schedule, folder, epochs=section.epochs, progress=report, clip=options.clip
    )
    if best:
        encoder.load_state_dict(best)


def tune(
    model: Sam, settings: DistillRecipe, train: Planes, val: Planes, out: Path, report: Report
) -> None:
    """Stage 2: decoder (and encoder) with prompts in the loop; `model` ends with its best weights.

    Batch norms are folded first: their statistics stay as stage 1 left them.
    """
    fold_norms(model.eval())
    student = trainee(
        model,
        AdapterSection(kind="none"),
        train_decoder=True,
        train_encoder=settings.decoder_trains_encoder,
    )
    folder = out / "decoder"
    folder.mkdir(exist_ok=True)
    path = folder / "best.pt"

    def save_best() -> None:
        save_checkpoint(path, {"state": student.state()})

    run_training(
        student, settings.decoder, train, val, folder,
        seed=settings.seed, report=report, save_best=save_best,
    )  # fmt: skip
    saved = read_checkpoint(path)
    if saved:
        student.load_state(saved["state"])


def _regression_steps(
    model: Sam, settings: DistillRecipe, train: Planes, cache: EmbeddingCache, kind: str, epoch: int
) -> Iterator[Callable[[], tuple[Terms, int]]]:
    model.image_encoder.train()
    section: EmbeddingSection = settings.embedding
    order = generator(settings.seed, "distill order", epoch)
    for number, indices in enumerate(epoch_batches(len(train), section.batch_size, order)):
        rng = generator(settings.seed, "distill step", epoch, number)
        flipped = rng.random(len(indices)) < 0.5 if section.flips else np.zeros(len(indices), bool)
        planes = train.images[indices]
        planes[flipped] = planes[flipped, :, ::-1]
        yield partial(_regression_step, model, planes, cache, kind)


def _regression_step(
    model: Sam, planes: np.ndarray, cache: EmbeddingCache, kind: str
) -> tuple[Terms, int]:
    device = next(model.parameters()).device
    wanted = _cached(cache, planes).to(device)
    images = torch.from_numpy(planes).unsqueeze(1).float().to(device) / 255
    with precision(kind, device):
        embedding = model.encode(images).image
    terms = embedding_terms(embedding.float(), wanted)
    return terms | {"total": terms["mse"] + terms["cosine"]}, len(planes)


@torch.no_grad()
def _cosine_score(model: Sam, val: Planes, cache: EmbeddingCache, kind: str) -> dict[str, float]:
    """Mean cosine to the teacher on validation images, 1 is perfect."""
    model.image_encoder.eval()
    device = next(model.parameters()).device
    total = 0.0
    for start in range(0, len(val), 32):
        planes = val.images[start : start + 32]
        images = torch.from_numpy(planes).unsqueeze(1).float().to(device) / 255
        with precision(kind, device):
            embedding = model.encode(images).image
        terms = embedding_terms(embedding.float(), _cached(cache, planes).to(device))
        total += (1 - terms["cosine"].item()) * len(planes)
    return {"score": total / max(1, len(val))}


def _cached(cache: EmbeddingCache, planes: np.ndarray) -> Tensor:
    found = [cache.read(plane) for plane in planes]
    whole = [embedding for embedding in found if embedding is not None]
    if len(whole) != len(planes):
        raise InputError(cache.folder, "an embedding was damaged while training", "run again")
    return torch.from_numpy(np.stack(whole)).float()


@torch.no_grad()
def _encode(master: Sam, kind: str, device: torch.device, images: Tensor) -> Tensor:
    with precision(kind, device):
        return master.encode(images.to(device)).image


def _announce(report: Report) -> Callable[[int, int], None]:
    def advance(done: int, total: int) -> None:
        if done % 100 == 0 or done == total:
            report(f"teacher embeddings: {done} of {total}")

    return advance


def _clone(module: torch.nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in module.state_dict().items()}


def _prefixed(best: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"best.{key}": value for key, value in best.items()}


def _restore(encoder: torch.nn.Module, best: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    own = {key: value for key, value in state.items() if not key.startswith("best.")}
    encoder.load_state_dict(own)
    best.update({k.removeprefix("best."): v for k, v in state.items() if k.startswith("best.")})


def _card(settings: DistillRecipe, student: Card, teacher: Card, stores: list[Store]) -> Card:
    tuned = settings.decoder.epochs > 0  # else the teacher's decoder knows what the teacher knew
    prompts = trained_prompts(settings.decoder.prompts) if tuned else teacher.prompts
    hashes = [teacher.split_hash] if teacher.split_hash else []
    changes = {
        "name": settings.name,
        "base": settings.name,
        "prompts": prompts,
        "zoom": settings.decoder.zoom,
        "classes": stores[0].classes,
        "split_hash": "+".join([*hashes, *(store.splits.hash for store in stores)]),
        "trained_on": (*teacher.trained_on, *(store.name for store in stores)),
        "licence": f"teacher {teacher.licence}; data {', '.join(s.licence for s in stores)}",
    }
    return Card.model_validate(student.model_dump() | changes)
