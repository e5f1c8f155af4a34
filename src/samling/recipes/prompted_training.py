"""Prompted training: the steps and scores that adapt and distill's second stage share."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from samling.config import TrainingSection
from samling.data.augment import Augmentation, augment
from samling.data.batches import (
    Planes,
    balanced_batches,
    check_window,
    class_numbers,
    close_ups,
    epoch_batches,
    read_planes,
)
from samling.data.blobs import with_blobs
from samling.data.intensity import Intensity
from samling.data.nothing import with_nothing
from samling.data.splits import TrainSplit, ValSplit
from samling.data.store import Store
from samling.errors import InputError
from samling.models.contract import Embedding, Promptable
from samling.prompts.frame import Fit
from samling.recipes.objective import Answers, prompted_terms, weighted_sum
from samling.recipes.validation import THRESHOLDS, best_threshold, score
from samling.training.distributed import gathered, own_rows, world
from samling.training.loop import Schedule, Task, Terms, best_precision, fit, precision
from samling.training.randomness import generator, seed_weights

Report = Callable[[str], None]
FEWEST = 20
"""Labelled validation images that may choose a mask threshold: over fewer, the mean Dice of two thresholds
differs by the luck of single images, and the choice is noise that a report would compare as if learned."""

POOR = 0.3
"""Mean Dice below which a model is of no use to anyone, and is said to be, by kind of prompt."""


@dataclass(frozen=True)
class Seeing:
    """How cases are read for training; see `read_planes` and `AdaptRecipe`.

    Args:
        intensity: what is done to values.
        slices: 3: the slices before and after come along.
        classes: names of the classes that are told apart; empty: all labels together.
        groups: few-shot: so many groups of every store, drawn by `seed`; None: all.
        fit: how an image becomes a square.
        unlabelled: cases without labels too: for the first stage of distill.
    """

    intensity: Intensity | None = None
    slices: int = 1
    classes: tuple[str, ...] = ()
    groups: int | None = None
    seed: int = 0
    fit: Fit = "pad"
    unlabelled: bool = False


class Learner(Protocol):
    """What is trained: an adapted base (`build.Trainee`) or a network from scratch."""

    @property
    def model(self) -> Promptable:
        """The segmenter."""
        ...

    @property
    def answers(self) -> Answers:
        """Which classes automatic mode tells apart."""
        ...

    @property
    def learns_norms(self) -> bool:
        """Whether batch norms follow the data, and dropout is on, while training."""
        ...

    def parameters(self) -> list[torch.nn.Parameter]:
        """Everything the optimiser changes."""
        ...

    def state(self) -> dict[str, torch.Tensor]:
        """The weights to checkpoint."""
        ...

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Put such weights back."""
        ...


def read_training(
    stores: list[Store], size: int, seeing: Seeing = Seeing()
) -> tuple[Planes, Planes]:
    """Training and validation cases of all stores at `size` px.

    Raises:
        InputError: there are none of one kind; or as `read_planes`.
    """
    for store in stores:
        store.neighbours = seeing.slices == 3

    def read(split: Callable[[Store], TrainSplit | ValSplit]) -> Planes:
        return read_planes(
            [(store, split(store)) for store in stores], size, seeing.intensity, seeing.classes,
            fit=seeing.fit, unlabelled=seeing.unlabelled,
        )  # fmt: skip

    train = read(lambda store: _few(store, seeing.groups, seeing.seed))
    val = read(lambda store: store.splits.val)
    names = ", ".join(str(store.path) for store in stores)
    if not len(train) or not len(val):
        raise InputError(names, "has no training or no validation case", "prepare more images")
    absent = [name for k, name in enumerate(seeing.classes, 1) if not (train.labels == k).any()]
    if absent and not seeing.unlabelled:
        there = ", ".join(name for name in seeing.classes if name not in absent)
        problem = f"shows no '{absent[0]}' in any training label: it cannot be learned"
        raise InputError(names, problem, f"name what is there: classes.names=[{there}]")
    return train, val


def check_training(stores: list[Store], seeing: Seeing) -> None:
    """Refuse what `read_training` would, without reading an image.

    Raises:
        InputError: a class that is not known, a window without Hounsfield units, too few groups, no
            neighbouring slices.
    """
    for store in stores:
        class_numbers(store, seeing.classes)
        if seeing.slices == 3 and not store.has_neighbours:
            problem = "holds no slices that lie beside each other"
            raise InputError(store.path, problem, "leave intensity.slices at 1")
        for case_id in (*_few(store, seeing.groups, seeing.seed).ids, *store.splits.val.ids):
            check_window(store, case_id, seeing.intensity)


def _few(store: Store, groups: int | None, seed: int) -> TrainSplit:
    """The training cases of some groups; fewer groups are among more, so that a curve makes sense.

    Raises:
        InputError: there are not so many.
    """
    split = store.splits.train
    if groups is None:
        return split
    group_of = {id: store.meta(id).group for id in split.ids}
    names = sorted(set(group_of.values()))
    if groups > len(names):
        problem = f"has {len(names)} groups of cases for training, {groups} are asked for"
        raise InputError(store.path, problem, "lower groups=")
    order = generator(seed, "groups").permutation(len(names))[:groups]
    chosen = {names[index] for index in order}
    return TrainSplit(tuple(id for id in split.ids if group_of[id] in chosen))


def trained_prompts(names: tuple[str, ...]) -> tuple[str, ...]:
    """Prompt kinds of a card: points and clicks were given with the mask before them, too."""
    begun = {"clicks": ("box", "points")}
    kinds = tuple(dict.fromkeys(kind for name in names for kind in begun.get(name, (name,))))
    return (*kinds, "mask") if "points" in kinds else kinds


def run_training(
    adapted: Learner,
    settings: TrainingSection,
    data: tuple[Planes, Planes],
    out: Path,
    *,
    seed: int,
    report: Report,
    save_best: Callable[[], None],
    compete: bool = False,
) -> bool:
    """Prompted training of whatever `adapted` leaves trainable; `compete` as in `fit`.

    Args:
        data: training and validation images.

    Returns:
        Whether the best weights are other ones than at the start.
    """
    train, val = data
    model = adapted.model
    parameters = adapted.parameters()
    device = parameters[0].device
    kind = _precision(settings, device)
    steps = -(-(settings.images_per_epoch or len(train)) // settings.batch_size)
    report(
        f"{len(train)} training and {len(val)} validation images, {steps} steps an epoch, {kind}"
    )
    closer = close_ups(val, settings.zoom) if settings.zoom else None
    task = Task(
        epoch_steps=partial(_epoch_steps, adapted, settings, train, seed, device, kind),
        validate=partial(score, model, settings, val, closer, seed, kind, adapted.answers),
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
    fitted = fit(
        task, optimizer, schedule, out,
        epochs=settings.epochs, progress=report, clip=options.clip, compete=compete,
    )  # fmt: skip
    if fitted.learned:
        _warn_if_poor(fitted.rows, report)
    return fitted.learned


def _warn_if_poor(rows: list[dict[str, Any]], report: Report) -> None:
    scores: list[dict[str, float]] = [row["val"] for row in rows]
    best = max(scores, key=lambda val: val["score"], default={})
    poor = [
        f"{kind} {value:.2f}" for kind, value in best.items() if kind != "score" and value < POOR
    ]
    if poor:
        report(
            f"it finds hardly anything in the validation images (mean Dice, {', '.join(poor)}): do not ask "
            "it so; train longer, on more images, or from a model that knows such pictures"
        )


def _epoch_steps(
    adapted: Learner,
    settings: TrainingSection,
    planes: Planes,
    seed: int,
    device: torch.device,
    kind: str,
    epoch: int,
) -> Iterator[Callable[[], tuple[Terms, int]]]:
    adapted.model.module.train(adapted.learns_norms)
    order = generator(seed, "order", epoch)
    count = settings.images_per_epoch
    if settings.balance < 1 or count:
        batches = balanced_batches(planes, settings.balance, settings.batch_size, order, count)
    else:
        batches = epoch_batches(len(planes), settings.batch_size, order)
    for number, indices in enumerate(batches):
        rng = generator(seed, "step", epoch, number)
        if adapted.learns_norms:  # dropout draws from the global generator
            seed_weights(int(generator(seed, "dropout", epoch, number).integers(2**31)))
        yield partial(_step, adapted, settings, planes, indices, rng, device, kind)


def _step(
    adapted: Learner,
    settings: TrainingSection,
    planes: Planes,
    indices: np.ndarray,
    rng: np.random.Generator,
    device: torch.device,
    kind: str,
) -> tuple[Terms, int]:
    """Augment, encode once, decode for every prompt kind; terms are means over the kinds.

    A batch without any object leaves every prompt but automatic nothing to learn: the total alone,
    without slope.
    """
    model, answers = adapted.model, adapted.answers
    images, labels = (tensor.to(device) for tensor in planes.tensors(indices))
    images, labels, made_up = with_blobs(images, labels, settings.augment.blob_chance, rng)
    chance = settings.augment.nothing_chance
    images, labels, empty = with_nothing(images, labels, chance, rng, spared=made_up)
    plan = Augmentation(**settings.augment.model_dump(exclude={"blob_chance", "nothing_chance"}))
    images, labels = augment(images, labels, plan, rng)
    known = planes.knows(indices, len(answers.names)) & ~made_up.unsqueeze(1)
    known = (known | empty.unsqueeze(1)).to(device)
    with precision(kind, device):
        embedding = _encode(model, images)
        parts = [
            terms
            for prompts in settings.prompts
            if (
                terms := prompted_terms(
                    model, embedding, labels, prompts, settings.loss, rng, answers, known
                )
            )
        ]
    if not parts:
        weights = [p.sum() for p in model.module.parameters() if p.requires_grad]
        return {"total": 0.0 * torch.stack(weights).sum()}, len(indices)
    names = dict.fromkeys(name for part in parts for name in part)
    means = {
        name: torch.stack([part[name] for part in parts if name in part]).mean() for name in names
    }
    total = torch.stack([weighted_sum(part, settings.loss) for part in parts]).mean()
    return means | {"total": total}, len(indices)


def _encode(model: Promptable, images: Tensor) -> Embedding:
    """The embedding of a batch; where several processes train together each encodes its share."""
    if world() == 1:
        return model.encode(images)
    count = len(images)
    own = model.encode(images[own_rows(count)])
    return Embedding(
        gathered(own.image, count),
        None if own.presence is None else gathered(own.presence, count),
        tuple(gathered(skip, count) for skip in own.skips),
    )


def calibrate(
    adapted: Learner,
    settings: TrainingSection,
    val: Planes,
    *,
    seed: int,
    report: Report,
    start: float = 0.0,
) -> float:
    """The logit above which a pixel is inside, for the finished model: the best on validation images.

    Focal loss weighs the foreground with a quarter, so masks cut at 0 come out too small.

    Args:
        start: of the model that training began with; it stays where images are too few to choose.
    """
    if len(val) < FEWEST:
        report(
            f"mask threshold {start:+.2f}, as at the start: {len(val)} labelled validation images are "
            f"too few to choose one ({FEWEST} are needed)"
        )
        return start
    model = adapted.model
    model.module.eval()
    device = adapted.parameters()[0].device
    closer = close_ups(val, settings.zoom) if settings.zoom else None
    kind = _precision(settings, device)
    threshold, before, after = best_threshold(
        model, settings, val, closer, seed, kind, adapted.answers
    )
    ends = THRESHOLDS[0], THRESHOLDS[-1]
    beyond = ", the end of the range searched: a better one may lie beyond" * (threshold in ends)
    report(f"mask threshold {threshold:+.2f}: mean Dice {after:.4f}, at 0 {before:.4f}{beyond}")
    return threshold


def _precision(settings: TrainingSection, device: torch.device) -> str:
    return settings.precision if settings.precision != "auto" else best_precision(device)
