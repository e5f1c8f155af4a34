"""Stage 1 of distill: regress a student's encoder on the cached outputs of a teacher's."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from samling.cache import cache_folder, cache_limit
from samling.config import DistillRecipe, EmbeddingSection
from samling.data.augment import retone
from samling.data.batches import Planes, epoch_batches
from samling.distillation.cache import EmbeddingCache
from samling.distillation.decoupled import embedding_terms
from samling.distillation.deep_supervision import Projections, join, level_term
from samling.errors import InputError
from samling.inference.card import Card
from samling.models.contract import Embedding
from samling.models.sam import Sam
from samling.models.tiny_vit import EMBEDDING_CHANNELS
from samling.recipes.objective import prompted_terms, weighted_sum
from samling.recipes.prompted_training import Report
from samling.recipes.supervision import Supervision, supervise
from samling.training.checkpoint import read_checkpoint
from samling.training.loop import Schedule, Task, Terms, best_precision, fit, precision
from samling.training.randomness import generator

Sight = Callable[[int], tuple[NDArray[np.uint8], tuple[int, int]]]
"""Row, of training and then of validation, -> (T, T) image and what of it is no padding, `Frame.inner`."""
_SAY_EVERY_S = 10.0
"""A large teacher takes seconds for an image: who waits is to see that it moves."""


def check_pair(student: Sam, teacher: Sam, card: Card, section: EmbeddingSection) -> None:
    """Refuse a teacher that the student cannot be regressed on.

    Args:
        card: the teacher's.

    Raises:
        InputError: `embedding.masks` is asked for, and the teacher's decoder would not answer for the
            student, see `answers_alike`, or knows neither box nor points; or deep supervision is, and
            the two do not suit, see `supervise`.
    """
    if section.masks:
        problem = "" if asked_by(card) else "knows neither box nor points"
        if not answers_alike(student, teacher):
            problem = f"has a mask decoder that answers otherwise than {student.architecture}'s"
        if problem:
            raise InputError(card.name, problem, "set embedding.masks=0")
    supervise(student, teacher, section)


def asked_by(card: Card) -> tuple[str, ...]:
    """Kinds of prompt by which a teacher's decoder is asked for an object."""
    return tuple(kind for kind in ("box", "points") if kind in card.prompts)


def shares_decoder(student: Sam, teacher: Sam) -> bool:
    """Whether the student's mask decoder is of the teacher's kind (not SAM 2's for a TinyViT)."""
    return type(student.mask_decoder) is type(teacher.mask_decoder)


def answers_alike(student: Sam, teacher: Sam) -> bool:
    """Whether a student with the teacher's mask decoder answers as the teacher does.

    Not if one answers with the best of three masks and the other with the single one, which the teacher's
    training may never have asked for.
    """
    alike = student.mask_decoder.best == teacher.mask_decoder.best
    return alike and shares_decoder(student, teacher)


def open_cache(teacher: Card, student: Sam, section: EmbeddingSection) -> EmbeddingCache:
    """The cache of this teacher, fed as its card says, on the student's grid.

    Deep supervision has one of its own, which names the student: it decides what is kept.
    """
    kind = f"{section.supervise}-{student.architecture}" if section.levels else ""
    fed = (teacher.architecture, str(teacher.input_size), teacher.fit, teacher.padding)
    name = "-".join((*fed, teacher.base_sha256[:16]))
    return EmbeddingCache(cache_folder() / "embeddings", name, student.embedding_size, kind)


def fill_cache(
    cache: EmbeddingCache,
    teacher: tuple[Sam, Card],
    shown: Supervision,
    pictures: tuple[Planes, Planes],
    *,
    sight: Sight | None = None,
    flips: bool,
    share: slice | None = None,
    report: Report,
) -> None:
    """Compute what is missing of the teacher; with `flips` of mirrored training images too.

    A file holds the embedding's channels, and behind them those that deep supervision compares.

    Args:
        teacher: and its card, which says what surrounds an image.
        shown: what the teacher shows.
        pictures: of training and validation.
        sight: shows them at the teacher's size, if that is another.
        share: of all these images; the others are left to somebody else, who also made room.

    Raises:
        InputError: the cache would grow beyond its limit.
    """
    master, card = teacher
    device = next(master.parameters()).device
    train, val = pictures
    if share is None:
        make_room(cache, shown, pictures, flips=flips)
    planes = _with_flips(train.images, val.images, flips)
    mine = range(len(planes))[share or slice(None)]
    planes = planes[share or slice(None)]
    view = partial(_view, sight or partial(_seen, pictures), card.padding == "mean")
    count = len(train) + len(val)
    report(f"teacher embeddings of {len(planes)} images (cached ones are kept)")
    kind = best_precision(device)

    @torch.no_grad()
    def encode(images: Tensor) -> Tensor:
        with precision(kind, device):
            levels, every = shown(master, images.to(device))
            return join([every[-1], *levels], cache.grid) if levels else every[-1]

    master.eval()
    advance = _announce(report)
    cache.fill(
        planes, encode, view=lambda index: view(*divmod(mine[index], count)), advance=advance
    )


def make_room(
    cache: EmbeddingCache, shown: Supervision, pictures: tuple[Planes, Planes], *, flips: bool
) -> None:
    """Delete what was written for other teachers until `fill_cache` fits.

    Raises:
        InputError: the cache would grow beyond its limit.
    """
    planes = _with_flips(pictures[0].images, pictures[1].images, flips)
    cache.make_room(planes, EMBEDDING_CHANNELS + sum(shown.widths), cache_limit())


def _with_flips(train: NDArray[Any], val: NDArray[Any], flips: bool) -> NDArray[Any]:
    """(N, S, S) of both, and of the training images mirrored."""
    parts = [train, val, train[:, :, ::-1]] if flips else [train, val]
    return np.ascontiguousarray(np.concatenate(parts))


def _seen(pictures: tuple[Planes, Planes], row: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """An image of training or, after those, of validation, and what of it is no padding."""
    train, val = pictures
    part, row = (train, row) if row < len(train) else (val, row - len(train))
    height, width = part.images.shape[-2:] if part.inner is None else part.inner[row]
    return part.images[row], (height, width)


def _view(sight: Sight, mean: bool, mirrored: int, row: int) -> Tensor:
    """(1, T, T) in [0, 1]; padding of the `mean` colour is -1."""
    plane, (height, width) = sight(row)
    image = torch.from_numpy(plane).float() / 255
    if mean:
        image[height:] = image[:, width:] = -1.0
    return (image.flip(-1) if mirrored else image).unsqueeze(0)


@dataclass
class _Stage:
    """What a step of stage 1 needs."""

    model: Sam
    projections: Projections | None
    shown: tuple[Supervision, Supervision]
    """What student and teacher show."""
    cache: EmbeddingCache
    settings: DistillRecipe
    kind: str
    prompts: tuple[str, ...]
    """Kinds by which the teacher's decoder is asked for an object."""

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def trained(self) -> nn.ModuleDict:
        """Everything that learns, under names for the checkpoint."""
        parts: dict[str, nn.Module] = {"encoder": self.model.image_encoder}
        if self.projections is not None:
            parts["projections"] = self.projections
        return nn.ModuleDict(parts)

    def wanted(self, planes: np.ndarray) -> Tensor:
        found = [self.cache.read(plane) for plane in planes]
        whole = [embedding for embedding in found if embedding is not None]
        if len(whole) != len(planes):
            problem = "an embedding was damaged while training"
            raise InputError(self.cache.folder, problem, "run again")
        return torch.from_numpy(np.stack(whole)).float().to(self.device)


def regress(
    model: Sam,
    shown: tuple[Supervision, Supervision],
    cache: EmbeddingCache,
    settings: DistillRecipe,
    pictures: tuple[Planes, Planes],
    out: Path,
    report: Report,
    prompts: tuple[str, ...],
) -> None:
    """Train the encoder on the cached outputs; `model` ends with its best weights.

    Args:
        shown: what student and teacher show to deep supervision, see `supervise`.
        prompts: kinds (box, points) that the teacher knows, for `embedding.masks`.
    """
    section, encoder, (train, val) = settings.embedding, model.image_encoder, pictures
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("image_encoder."))
    device = next(model.parameters()).device
    own, wanted = (part.widths for part in shown)
    deep = Projections(own, wanted).to(device) if section.levels else None
    stage = _Stage(model, deep, shown, cache, settings, best_precision(device), prompts)
    trained = stage.trained()
    options, parameters = section.optimiser, list(trained.parameters())
    make = torch.optim.Adam if options.kind == "adam" else torch.optim.AdamW
    optimizer = make(parameters, lr=options.rate, weight_decay=options.weight_decay)
    total = -(-len(train) // section.batch_size) * section.epochs
    schedule = Schedule(options.rate, total, options.warmup_steps, options.cosine)
    best: dict[str, Tensor] = {}
    task = Task(
        epoch_steps=partial(_steps, stage, train),
        validate=partial(_cosine_score, stage, val),
        state=lambda: {**_clone(trained), **_prefixed(best)},
        load_state=partial(_restore, trained, best),
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


def epochs_done(out: Path) -> int:
    """How many epochs of stage 1 the run `out` has behind it."""
    saved = read_checkpoint(out / "embedding" / "checkpoint.pt")
    return saved["epoch"] if saved else 0


def _steps(stage: _Stage, train: Planes, epoch: int) -> Iterator[Callable[[], tuple[Terms, int]]]:
    stage.model.image_encoder.train()
    section, seed = stage.settings.embedding, stage.settings.seed
    order = generator(seed, "distill order", epoch)
    for number, indices in enumerate(epoch_batches(len(train), section.batch_size, order)):
        rng = generator(seed, "distill step", epoch, number)
        flipped = rng.random(len(indices)) < 0.5 if section.flips else np.zeros(len(indices), bool)
        planes, labels = train.images[indices], train.labels[indices]
        planes[flipped], labels[flipped] = planes[flipped, :, ::-1], labels[flipped, :, ::-1]
        yield partial(_step, stage, planes, labels, rng)


def _step(
    stage: _Stage, planes: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> tuple[Terms, int]:
    section, device = stage.settings.embedding, stage.device
    wanted, rest = stage.wanted(planes).tensor_split([EMBEDDING_CHANNELS], dim=1)
    images = torch.from_numpy(planes).unsqueeze(1).float().to(device) / 255
    # The teacher saw the image as it is: the student learns to see through a change of tone
    images = retone(images, section.tone_chance, rng)
    with precision(stage.kind, device):
        own, (*levels, embedding) = stage.shown[0](stage.model, images)
        terms = embedding_terms(embedding.float(), wanted)
        if stage.projections is not None:
            seen = stage.projections(own, stage.cache.grid)
            terms["levels"] = level_term(seen.float(), rest, stage.shown[1].widths)
        asked: Terms = {}
        if section.masks:
            loss = stage.settings.decoder.loss
            masks = torch.from_numpy(labels).float().to(device)
            # The student's decoder is the teacher's, frozen: it judges what matters
            shown = Embedding(embedding, None, stage.model.skips_of(levels))
            kind = rng.choice(stage.prompts) if len(stage.prompts) > 1 else stage.prompts[0]
            asked = prompted_terms(stage.model, shown, masks, kind, loss, rng)
            if asked:
                terms["masks"] = weighted_sum(asked, loss)
    total = torch.stack([getattr(section, name) * value for name, value in terms.items()]).sum()
    parts = {f"masks_{name}": value for name, value in asked.items()}
    return terms | parts | {"total": total}, len(planes)


@torch.no_grad()
def _cosine_score(stage: _Stage, val: Planes) -> dict[str, float]:
    """Mean cosine to the teacher on validation images, 1 is perfect."""
    stage.model.image_encoder.eval()
    total = 0.0
    for start in range(0, len(val), 32):
        planes = val.images[start : start + 32]
        images = torch.from_numpy(planes).unsqueeze(1).float().to(stage.device) / 255
        with precision(stage.kind, stage.device):
            embedding = stage.model.encode(images).image
        wanted = stage.wanted(planes)[:, :EMBEDDING_CHANNELS]
        total += (1 - embedding_terms(embedding.float(), wanted)["cosine"].item()) * len(planes)
    return {"score": total / max(1, len(val))}


def _announce(report: Report) -> Callable[[int, int], None]:
    said = started = time.monotonic()

    def advance(done: int, total: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said > _SAY_EVERY_S or done == total:
            said, left = now, (total - done) * (now - started) / done
            rest = f", {left / 60:.0f} min left" if done < total else ""
            report(f"teacher embeddings: {done} of {total}{rest}")

    return advance


def _clone(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in module.state_dict().items()}


def _prefixed(best: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"best.{key}": value for key, value in best.items()}


def _restore(trained: nn.Module, best: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    own = {key: value for key, value in state.items() if not key.startswith("best.")}
    trained.load_state_dict(own)
    best.update({k.removeprefix("best."): v for k, v in state.items() if k.startswith("best.")})
