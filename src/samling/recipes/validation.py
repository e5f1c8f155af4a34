"""Validation while training: Dice at model size per prompt kind, and the threshold of the masks."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samling.config import TrainingSection
from samling.data.batches import Planes
from samling.evaluation.protocols import clicking
from samling.models.contract import Embedding, Promptable
from samling.prompts.sampling import objects, simulate
from samling.recipes.objective import (
    TOGETHER,
    Answers,
    automatic_tokens,
    corrected,
    dice_scores,
    to_tokens,
)
from samling.training.loop import precision
from samling.training.randomness import generator

PROTOCOLS = {"box": "box", "points": "point1", "clicks": "boxclicks3", "automatic": "auto"}
THRESHOLDS = tuple(np.arange(-2.0, 2.01, 0.25).tolist())
BATCH = 32
_CERTAIN_NO = -100.0


def score(
    model: Promptable,
    settings: TrainingSection,
    val: Planes,
    closer: Planes | None,
    seed: int,
    kind: str,
    answers: Answers = TOGETHER,
) -> dict[str, float]:
    """Mean Dice per prompt kind, and their mean as `score`, which chooses the epoch.

    Box, points and clicks (three after a tight box, the mask before with each): the largest object
    alone. Automatic: the union, or every class on the images whose labels would show it, empty images
    included. With `closer` (see `close_ups`) boxes alone are answered from there, as the finished
    model will do; clicks are not.
    """
    found = _scores(model, settings, val, closer, seed, kind, (0.0,), answers)
    means = {protocol: float(values[0]) for protocol, values in found.items()}
    return means | {"score": float(np.mean(list(means.values())))}


def best_threshold(
    model: Promptable,
    settings: TrainingSection,
    val: Planes,
    closer: Planes | None,
    seed: int,
    kind: str,
    answers: Answers = TOGETHER,
) -> tuple[float, float, float]:
    """The logit at which cut masks are best in the mean over prompt kinds; of equals the nearest to 0.

    Returns:
        The threshold, the mean Dice at 0 and at the threshold.
    """
    found = _scores(model, settings, val, closer, seed, kind, THRESHOLDS, answers)
    means = np.mean(list(found.values()), axis=0)
    best = max(range(len(THRESHOLDS)), key=lambda i: (means[i], -abs(THRESHOLDS[i])))
    return THRESHOLDS[best], float(means[THRESHOLDS.index(0.0)]), float(means[best])


def _scores(
    model: Promptable,
    settings: TrainingSection,
    val: Planes,
    closer: Planes | None,
    seed: int,
    kind: str,
    thresholds: tuple[float, ...],
    answers: Answers,
) -> dict[str, NDArray[np.float64]]:
    """Protocol -> mean Dice at each threshold."""
    protocols = [PROTOCOLS[name] for name in settings.prompts]
    means = _means(model, protocols, val, seed, kind, thresholds, answers)
    if closer is not None and "box" in protocols:
        means |= _means(model, ["box"], closer, seed, kind, thresholds, answers)
    return means


@torch.no_grad()
def _means(
    model: Promptable,
    protocols: list[str],
    planes: Planes,
    seed: int,
    kind: str,
    thresholds: tuple[float, ...],
    answers: Answers,
) -> dict[str, NDArray[np.float64]]:
    """Mean Dice per protocol and threshold; the same prompts every time."""
    model.module.eval()
    automatic = {f"auto {name}".strip(): k for k, name in enumerate(answers.names)}
    named = [key for p in protocols for key in (automatic if p == "auto" else (p,))]
    found: dict[str, list[NDArray[np.float64]]] = {protocol: [] for protocol in named}
    device = next(model.module.parameters(), torch.empty(0)).device
    for start in range(0, len(planes), BATCH):
        indices = np.arange(start, min(start + BATCH, len(planes)))
        images, labels = (tensor.to(device) for tensor in planes.tensors(indices))
        with precision(kind, device):
            embedding = model.encode(images)
            for protocol, scores in found.items():
                rng = generator(seed, f"validate {protocol}", step=start)
                masks = answers.masks(labels)
                if protocol in automatic:
                    k = automatic[protocol]
                    rows = planes.knows(indices, len(answers.names))[:, k]
                    answered = _automatic(model, embedding, masks, answers, k, rows)
                else:
                    shown = masks[:, 0] if answers.nested else labels
                    answered = _prompted(model, embedding, shown, protocol, rng)
                if answered is not None:
                    scores.append(_dice(*answered, thresholds))
    nothing = np.zeros(len(thresholds))
    return {k: np.concatenate(v, axis=1).mean(axis=1) if v else nothing for k, v in found.items()}


def _dice(logits: Tensor, wanted: Tensor, thresholds: tuple[float, ...]) -> NDArray[np.float64]:
    """(T, B) Dice of masks cut at each threshold."""
    rows = [dice_scores(logits.float() - threshold, wanted) for threshold in thresholds]
    return torch.stack(rows).double().cpu().numpy()


def _automatic(
    model: Promptable,
    embedding: Embedding,
    masks: Tensor,
    answers: Answers,
    k: int,
    rows: Tensor,
) -> tuple[Tensor, Tensor] | None:
    """Logits of class k and the masks that were wanted, of the images whose labels would show it."""
    if not rows.any():
        return None
    tokens = automatic_tokens(answers, len(masks), masks.shape[-1], masks.device)
    logits = model.decode(embedding, tokens).masks[:, k : k + 1]
    if embedding.presence is not None:
        nothing = (embedding.presence.view(len(masks), -1)[:, k] < 0).view(-1, 1, 1, 1)
        logits = logits.masked_fill(nothing, _CERTAIN_NO)
    return logits[rows], masks[rows, k]


def _prompted(
    model: Promptable, embedding: Embedding, labels: Tensor, protocol: str, rng: np.random.Generator
) -> tuple[Tensor, Tensor] | None:
    """Logits and the masks that were wanted; None if there is nothing to point at."""
    planes = labels.cpu().numpy().astype(np.uint8)
    found = {index: simulate(plane, protocol, rng) for index, plane in enumerate(planes)}
    keep = [index for index, prompts in found.items() if prompts]
    if not keep:
        return None
    shown = embedding.rows(keep)
    largest = [objects(planes[index])[0] for index in keep]
    prompts = [found[index][0] for index in keep]
    for _ in range(clicking(protocol)[0] - 1):
        prompts = corrected(model, shown, prompts, largest, rng)
    tokens = to_tokens(prompts, labels.shape[-1], labels.device)
    return model.decode(shown, tokens).masks, torch.from_numpy(np.stack(largest)).to(labels)
