"""distill: teach a light encoder a teacher's embedding, then tune it with prompts in the loop."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from samling.config import AdapterSection, DistillRecipe, load_recipe
from samling.data.batches import Planes, plane_of
from samling.data.store import Store
from samling.errors import InputError
from samling.inference.card import Card
from samling.models.sam import Sam
from samling.models.tiny_vit import fold_norms
from samling.models.weights import sha256_of_tensors, warm_start
from samling.prompts.frame import Fit
from samling.recipes.build import (
    Base,
    inject_section,
    load_torch,
    new_base,
    save_base,
    trainee,
)
from samling.recipes.cluster import Row, on_ray
from samling.recipes.embedding_stage import (
    answers_alike,
    asked_by,
    check_pair,
    epochs_done,
    fill_cache,
    make_room,
    open_cache,
    regress,
    shares_decoder,
)
from samling.recipes.prompted_training import (
    Report,
    Seeing,
    calibrate,
    read_training,
    run_training,
    trained_prompts,
)
from samling.recipes.run_folder import draw_curves, open_run
from samling.recipes.supervision import supervise
from samling.training.checkpoint import locked, read_checkpoint, save_checkpoint
from samling.training.randomness import seed_weights

SHARES = 64
"""In so many parts the teacher's embeddings are handed out to a cluster."""
PROMPTED = ("frequencies", "kinds", "padding", "no_mask", "mask_downscaling")
"""Parts of the prompt encoder that boxes, points and masks use."""


def distill(
    recipe: str | Path,
    stores: list[Path],
    teacher: str,
    out: Path,
    overrides: list[str] | None = None,
    *,
    ray: bool = False,
    report: Report = print,
) -> Path:
    """Distil `teacher` into the light model on the training cases of `stores`.

    The student begins with the teacher's prompt encoder and mask decoder, or with its own where it
    cannot take them over, and sees images as the teacher does (its fit), at its own size; what surrounds
    them is black, whatever the teacher is shown. Stage 1 (`out`/embedding) needs no labels, and takes
    images without any: the student's embedding is regressed on the teacher's, cached once, with `ray` by
    a Ray cluster whose machines see the same files. Stage 2 (`out`/decoder) tunes with simulated
    prompts. An interrupted run goes on.

    Returns:
        The run folder with base.safetensors and base.json, usable as `--base`.

    Raises:
        InputError: bad recipe, store or teacher; the teacher does not suit the student; no cases;
            `out` holds a run of other settings.
    """
    settings = load_recipe(DistillRecipe, recipe, overrides or [])
    opened = [Store.open(path) for path in stores]
    master, master_card = _teacher(teacher)
    student = _student(settings)
    _check(settings, opened, student.model, master, master_card)
    with locked(out):
        open_run(out, settings, opened, master_card)
        model = student.model.to("cuda" if torch.cuda.is_available() else "cpu")
        begins = _decoder(model, master, master_card, settings, report)
        seeing = Seeing(fit=master_card.fit)
        if settings.embedding.epochs:
            pair, cluster = (model, master, master_card), teacher if ray else None
            _imitate(pair, settings, opened, out, report, cluster)
        if not settings.decoder.epochs:  # nobody will look at labels
            seeing = replace(seeing, unlabelled=True)
        planes = read_training(opened, model.input_size, seeing)
        limit = tune(model, settings, *planes, out, report, begins)
        save_base(out, model, _card(settings, student.card, master_card, opened, limit))
        if settings.decoder.epochs:
            draw_curves(out / "decoder")
            shutil.copyfile(out / "decoder" / "curves.png", out / "curves.png")
    return out


def _decoder(model: Sam, master: Sam, card: Card, settings: DistillRecipe, report: Report) -> float:
    """Give the student the teacher's decoder, if it can hold it; the threshold it begins with."""
    if shares_decoder(model, master):
        take_over_decoder(model, master)
        return card.mask_threshold
    own = "LiteMedSAM's" if settings.warm_start else "random weights"
    report(f"the student keeps its own mask decoder ({own}) and trains it in stage 2")
    return 0.0


def _check(
    settings: DistillRecipe, stores: list[Store], student: Sam, teacher: Sam, card: Card
) -> None:
    """Refuse before hours of work what would fail after them."""
    if settings.embedding.epochs:
        check_pair(student, teacher, card, settings.embedding)
    elif not shares_decoder(student, teacher):
        problem = f"has nothing to teach {student.architecture} but its embedding"
        raise InputError(card.name, problem, "set embedding.epochs=10, say")
    kept = not settings.decoder.epochs or settings.tunes == "encoder"
    if kept and not answers_alike(student, teacher):
        problem = f"has a mask decoder with which the student {student.architecture} cannot answer"
        remedy = "let the student train its own: decoder.epochs=4 tunes=both, say"
        raise InputError(card.name, problem, remedy)
    needed: list[tuple[str, str, str]] = []
    if settings.embedding.epochs and settings.embedding.masks:
        needed.append(("train", "draw prompts from for embedding.masks", "embedding.masks=0"))
    if settings.decoder.epochs:
        remedy = "decoder.epochs=0: stage 1 needs none"
        needed += [("train", "tune on", remedy), ("val", "validate with", remedy)]
    for part, use, remedy in needed:
        if not any(s.meta(id).labelled for s in stores for id in s.splits.ids(part)):
            where = ", ".join(str(store.path) for store in stores)
            problem = f"have no labelled image to {use}"
            raise InputError(where, problem, f"add a store with labels, or set {remedy}")


def _student(settings: DistillRecipe) -> Base:
    """A new student, with the adapters that are part of it."""
    student = new_base(settings.student, warm=settings.warm_start)
    if settings.adapter.kind == "none":
        return student
    seed_weights(settings.seed)
    inject_section(student.model, settings.adapter)
    own = settings.adapter.model_dump(mode="json")
    return Base(student.model, student.card.model_copy(update={"own_adapter": own}))


def _imitate(
    pair: tuple[Sam, Sam, Card],
    settings: DistillRecipe,
    stores: list[Store],
    out: Path,
    report: Report,
    cluster: str | None,
) -> None:
    """Stage 1: fill the cache of the teacher, regress the student on it.

    Args:
        pair: student and teacher, with the teacher's card.
        cluster: the teacher's name, if Ray is to fill the cache.
    """
    model, master, card = pair
    master.to(next(model.parameters()).device)
    seeing = Seeing(fit=card.fit, unlabelled=True)
    pictures = read_training(stores, model.input_size, seeing)
    if epochs_done(out) < settings.embedding.epochs:  # else nobody will look at the cache
        if cluster:
            _fill_on_ray(pair, settings, stores, cluster, pictures)
        _fill(pair, settings, stores, pictures, report)
    shown = supervise(model, master, settings.embedding)
    cache = open_cache(card, model, settings.embedding)
    regress(model, shown, cache, settings, pictures, out, report, asked_by(card))


@dataclass(frozen=True)
class _Sight:
    """A `Sight`, read from the stores one by one: all at 1024 px take 16 times the student's memory."""

    cases: list[tuple[Store, str]]
    side: int
    fit: Fit

    def __call__(self, row: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
        store, case_id = self.cases[row]
        plane, frame = plane_of(store.case(case_id), self.side, self.fit)
        return plane, frame.inner


def _fill(
    pair: tuple[Sam, Sam, Card],
    settings: DistillRecipe,
    stores: list[Store],
    pictures: tuple[Planes, Planes],
    report: Report,
    share: slice | None = None,
) -> None:
    """Ask the teacher for what its cache lacks."""
    model, master, card = pair
    section, sight = settings.embedding, None
    if master.input_size != model.input_size:
        cases = [
            (s, name) for part in ("train", "val") for s in stores for name in s.splits.ids(part)
        ]
        sight = _Sight(cases, master.input_size, card.fit)
    shown = supervise(model, master, section)[1]
    fill_cache(open_cache(card, model, section), (master, card), shown, pictures, sight=sight,
               flips=section.flips, share=share, report=report)  # fmt: skip


def _fill_on_ray(
    pair: tuple[Sam, Sam, Card],
    settings: DistillRecipe,
    stores: list[Store],
    teacher: str,
    pictures: tuple[Planes, Planes],
) -> None:
    model, master, card = pair
    section = settings.embedding
    shown = supervise(model, master, section)[1]
    make_room(open_cache(card, model, section), shown, pictures, flips=section.flips)
    given = (settings.model_dump(mode="json"), [str(store.path) for store in stores], teacher)
    rows = [{"share": share} for share in range(SHARES)]
    on_ray(_TeacherWorker, given, rows, "teacher embeddings", "shares")


class _TeacherWorker:
    """Fills shares of the teacher's cache; who asks for them again finds them done."""

    def __init__(self, settings: dict[str, Any], stores: list[str], teacher: str) -> None:
        self.settings = DistillRecipe.model_validate(settings)
        self.master, self.card = _teacher(teacher)
        self.student = _student(self.settings).model
        self.stores = [Store.open(Path(path)) for path in stores]
        seeing = Seeing(fit=self.card.fit, unlabelled=True)
        self.pictures = read_training(self.stores, self.student.input_size, seeing)

    def __call__(self, row: Row) -> Row:
        pair, share = (self.student, self.master, self.card), slice(row["share"], None, SHARES)
        _fill(pair, self.settings, self.stores, self.pictures, lambda message: None, share)
        return row


def take_over_decoder(student: Sam, master: Sam) -> None:
    """Copy prompt encoder, mask decoder and skips that fit, an automatic mode if there is one."""
    parts = ["mask_decoder.", *(f"prompt_encoder.{name}" for name in PROMPTED)]
    if [c.weight.shape for c in student.skips] == [c.weight.shape for c in master.skips]:
        parts.append("skips.")
    if master.presence is not None:
        parts += ["prompt_encoder.automatic.", "presence."]
    state = master.state_dict()
    taken = {key: value for key, value in state.items() if key.startswith(tuple(parts))}
    warm_start(student, taken)


def tune(
    model: Sam,
    settings: DistillRecipe,
    train: Planes,
    val: Planes,
    out: Path,
    report: Report,
    start: float,
) -> float:
    """Stage 2: decoder, encoder or both with prompts in the loop; `model` ends with its best weights.

    Batch norms are folded first: their statistics stay as stage 1 left them.

    Args:
        start: the threshold of the decoder that the student begins with.

    Returns:
        The threshold at which masks are cut best; `start` where nothing can choose one.
    """
    fold_norms(model.eval())
    student = trainee(
        model,
        AdapterSection(kind="none"),
        train_decoder=settings.tunes != "encoder",
        train_encoder=settings.tunes != "decoder",
    )
    folder = out / "decoder"
    folder.mkdir(exist_ok=True)
    path = folder / "best.pt"

    def save_best() -> None:
        save_checkpoint(path, {"state": student.state()})

    run_training(
        student, settings.decoder, (train, val), folder,
        seed=settings.seed, report=report, save_best=save_best,
    )  # fmt: skip
    saved = read_checkpoint(path)
    if saved:
        student.load_state(saved["state"])
    if not settings.decoder.epochs:
        return start
    return calibrate(student, settings.decoder, val, seed=settings.seed, report=report, start=start)


def _card(
    settings: DistillRecipe, student: Card, teacher: Card, stores: list[Store], threshold: float
) -> Card:
    tuned = settings.decoder.epochs > 0  # else the teacher's decoder knows what the teacher knew
    prompts = trained_prompts(settings.decoder.prompts) if tuned else teacher.prompts
    hashes = [hash for hash in (teacher.split_hash or "").split("+") if hash]
    hashes += ["unknown"] * (len(teacher.trained_on) - len(hashes))
    own = [(store.name, store.splits.hash) for store in stores]
    # A teacher that was trained on the same sets is no reason to name them twice
    splits = dict.fromkeys([*zip(teacher.trained_on, hashes, strict=False), *own])
    changes = {
        "name": settings.name,
        "base": settings.name,
        "prompts": prompts,
        "mask_threshold": threshold,
        "zoom": settings.decoder.zoom,
        "fit": teacher.fit,  # embeddings are compared cell by cell
        "token_padding": "points" if tuned else teacher.token_padding,
        "classes": stores[0].classes if len({s.classes for s in stores}) == 1 else ("object",),
        "split_hash": "+".join(hash for _, hash in splits),
        "trained_on": tuple(name for name, _ in splits),
        "licence": f"teacher {teacher.licence}; data {', '.join(s.licence for s in stores)}",
    }
    return Card.model_validate(student.model_dump() | changes)


def _teacher(name: str) -> tuple[Sam, Card]:
    """The model, and its card with the hash of all its weights."""
    model, card = load_torch(name)
    if not isinstance(model, Sam):
        raise InputError(name, "has no image encoder to learn from", "name a SAM as teacher")
    if card.window_hu or card.clahe or card.slices != 1 or card.answers > 1 or model.fusion:
        problem = "sees through a window or tells classes apart, which a student does not yet"
        raise InputError(name, problem, "name a teacher for all that is there, without a window")
    # Of an adapted teacher the card names the base's hash; the cache must know the adapter too
    whole = sha256_of_tensors(model.state_dict())
    return model, card.model_copy(update={"base_sha256": whole})
