"""adapt: train an adapter on prepared stores, validate every epoch, keep the best, resume."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from samling.adapters.injection import save_adapter
from samling.config import AdaptRecipe, load_recipe
from samling.data.batches import Planes
from samling.data.intensity import Intensity, window_of
from samling.data.store import Store
from samling.inference.card import Card
from samling.models.weights import read_state
from samling.recipes.build import Base, NewLayers, Trainee, load_base, trainee
from samling.recipes.leaks import other_split
from samling.recipes.objective import TOGETHER, Answers
from samling.recipes.prompted_training import (
    Report,
    Seeing,
    calibrate,
    check_training,
    read_training,
    run_training,
    trained_prompts,
)
from samling.recipes.run_folder import draw_curves, open_run
from samling.training.checkpoint import locked
from samling.training.distributed import together, wait_for_others

SHOWN = ("zoom", "fit", "padding", "token_padding", "window_hu", "clahe", "slices")
"""Of a card: how images and prompts are shown to the model."""


def adapt(
    recipe: str | Path,
    stores: list[Path],
    out: Path,
    base: str = "base",
    overrides: list[str] | None = None,
    *,
    report: Report = print,
) -> Path:
    """Train an adapter on the training cases of `stores`; their validation cases choose the epoch.

    They also choose the threshold at which masks are cut, if they are not too few: then the base's stays.

    The run folder `out` gets config.yaml, environment.json, metrics.jsonl, checkpoint.pt,
    adapter.safetensors, adapter.json and curves.png. An interrupted run goes on where it stopped.
    Started by torchrun, the processes share every batch; the first one writes.

    Returns:
        The run folder.

    Raises:
        InputError: bad recipe, store or base; no cases; `out` holds a run of other settings.
    """
    settings = load_recipe(AdaptRecipe, recipe, overrides or [])
    opened = [Store.open(path) for path in stores]
    check_training(opened, seeing_of(settings))  # before a run folder is made
    foundation = load_base(base)
    data = read_training(opened, foundation.model.input_size, seeing_of(settings))
    with together() as number, _place(out, number) as place, locked(place):
        open_run(place, settings, opened, foundation.card)
        _train(settings, opened, foundation, data, place, _silent if number else report)
        draw_curves(place)
    return out


@contextmanager
def _place(out: Path, number: int) -> Iterator[Path]:
    """Where a process keeps its run: the first one in `out`, the others in a copy that is thrown away."""
    if not number:
        wait_for_others()  # they copy what there is before anything is written
        yield out
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        if out.exists():
            shutil.copytree(out, place, ignore=shutil.ignore_patterns(".*"))
        wait_for_others()
        yield place


def _silent(message: str) -> None:
    """The first process speaks for all."""


def _train(
    settings: AdaptRecipe,
    stores: list[Store],
    base: Base,
    data: tuple[Planes, Planes],
    out: Path,
    report: Report,
) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    adapted = trainee(
        base.model.to(device),
        settings.adapter,
        seed=settings.seed,
        train_decoder=settings.train_decoder,
        train_encoder=settings.train_encoder,
        layers=NewLayers(answers_of(settings), settings.fusion, settings.anatomy),
    )
    count = sum(p.numel() for p in adapted.parameters())
    report(f"training {count:,} weights on {device.type}")
    if base.card.trained_on:
        names = ", ".join(base.card.trained_on)
        report(f"the base was trained on {names}: images of those sets among yours flatter it")
    card = adapted_card(settings, base, stores)
    save_best = partial(_save, out, adapted, card)
    compete = _competes(settings, stores, base.card)
    learned = run_training(
        adapted, settings.training, data, out,
        seed=settings.seed, report=report, save_best=save_best, compete=compete,
    )  # fmt: skip
    if not settings.training.epochs:
        save_best()
        return
    path = out / "adapter.safetensors"
    adapted.load_state(read_state(path), str(path))
    cut = calibrate(
        adapted, settings.training, data[1],
        seed=settings.seed, report=report, start=base.card.mask_threshold,
    )  # fmt: skip
    # As it lies there: a finished run that is run again keeps its calibration
    saved = Card.read(out / "adapter.json")
    saved.model_copy(update={"mask_threshold": cut}).save(out / "adapter.json")
    if not learned:
        report(f"nothing was learned; {_difference(card, base.card, cut)}")


def _difference(card: Card, base: Card, cut: float) -> str:
    """What tells a run with the base's weights from the base."""
    if any(getattr(card, name) != getattr(base, name) for name in SHOWN):
        return "the weights are the base's, images are shown to them in another way"
    if cut != base.mask_threshold:
        return "only the mask threshold differs from the base's"
    return "weights and mask threshold are the base's"


def _competes(settings: AdaptRecipe, stores: list[Store], base: Card) -> bool:
    """Whether the base is what every epoch has to beat.

    It must answer all that the run will, and not have been trained on the images that choose.
    """
    kinds = trained_prompts(settings.training.prompts)
    answers = set(kinds) <= set(base.prompts) and not settings.classes.names
    fair = not any(other_split(base, store) for store in stores)
    return bool(settings.training.epochs) and answers and fair


def answers_of(settings: AdaptRecipe) -> Answers:
    """The masks that automatic mode is to give."""
    classes = settings.classes
    return Answers(classes.names, classes.nested) if classes.names else TOGETHER


def seeing_of(settings: AdaptRecipe) -> Seeing:
    """How the recipe reads cases.

    Raises:
        InputError: there is no such window.
    """
    section = settings.intensity
    return Seeing(
        Intensity(_window(settings), section.clahe),
        section.slices,
        settings.classes.names,
        settings.groups,
        settings.seed,
    )


def _window(settings: AdaptRecipe) -> tuple[float, float] | None:
    window = settings.intensity.window
    if window is None:
        return None
    return window_of(window if isinstance(window, str) else f"{window[0]},{window[1]}")


def adapted_card(settings: AdaptRecipe, base: Base, stores: list[Store]) -> Card:
    """The card of an adapted run."""
    learned = settings.training.epochs > 0
    prompts = trained_prompts(settings.training.prompts) if learned else base.card.prompts
    hashes = [base.card.split_hash] if base.card.split_hash else []
    flags = {
        name: getattr(settings, name)
        for name in ("train_decoder", "train_encoder", "fusion", "anatomy")
    }
    common = stores[0].classes if len({s.classes for s in stores}) == 1 else ("object",)
    apart = "nested" if settings.classes.nested else "separate"
    changes = {
        "name": settings.name,
        "prompts": prompts,
        "zoom": settings.training.zoom,
        # What training does, whatever the base's authors did: see decision 012
        "fit": "pad",
        "padding": "black",
        "token_padding": "points",
        "window_hu": _window(settings),
        "clahe": settings.intensity.clahe,
        "slices": settings.intensity.slices,
        "calibration": None,
        "classes": settings.classes.names or common,
        "automatic": apart if settings.classes.names else "together",
        "split_hash": "+".join([*hashes, *(store.splits.hash for store in stores)]),
        "trained_on": (*base.card.trained_on, *(store.name for store in stores)),
        "licence": f"base {base.card.licence}; data {', '.join(store.licence for store in stores)}",
        "adapter": settings.adapter.model_dump(mode="json") | flags,
    }
    return Card.model_validate(base.card.model_dump() | changes)


def _save(out: Path, adapted: Trainee, card: Card) -> None:
    save_adapter(out / "adapter.safetensors", adapted.state())
    card.save(out / "adapter.json")
