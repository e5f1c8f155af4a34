"""Validation while training: Dice at model size per prompt kind, and the threshold of the masks."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samling.config import TrainingSection
from samling.data.batches import Planes
from samling.models.contract import Embedding, Promptable
from samling.prompts.prompt import Prompt
from samling.prompts.sampling import components, simulate
from samling.recipes.objective import dice_scores, to_tokens
from samling.training.loop import precision
from samling.training.randomness import generator

PROTOCOLS = {"box": "box", "points": "point1", "automatic": "auto"}
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
) -> dict[str, float]:
    """Mean Dice per prompt kind, and their mean as `score`, which chooses the epoch.

    Box and points: the largest component alone. Automatic: the union, empty images included. With
    `closer` (see `close_ups`) boxes are answered from there, as the finished model will do.
    """
    found = _scores(model, settings, val, closer, seed, kind, (0.0,))
    means = {protocol: float(values[0]) for protocol, values in found.items()}
    return means | {"score": float(np.mean(list(means.values())))}


def best_threshold(
    model: Promptable,
    settings: TrainingSection,
    val: Planes,
    closer: Planes | None,
    seed: int,
    kind: str,
) -> tuple[float, float, float]:
    """The logit at which cut masks are best in the mean over prompt kinds; of equals the nearest to 0.

    Returns:
        The threshold, the mean Dice at 0 and at the threshold.
    """
    found = _scores(model, settings, val, closer, seed, kind, THRESHOLDS)
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
) -> dict[str, NDArray[np.float64]]:
    """Protocol -> mean Dice at each threshold."""
    protocols = [PROTOCOLS[name] for name in settings.prompts]
    means = _means(model, protocols, val, seed, kind, thresholds)
    if closer is not None and "box" in protocols:
        means |= _means(model, ["box"], closer, seed, kind, thresholds)
    return means


@torch.no_grad()
def _means(
    model: Promptable,
    protocols: list[str],
    planes: Planes,
    seed: int,
    kind: str,
    thresholds: tuple[float, ...],
) -> dict[str, NDArray[np.float64]]:
    """Mean Dice per protocol and threshold; the same prompts every time."""
    model.module.eval()
    found: dict[str, list[NDArray[np.float64]]] = {protocol: [] for protocol in protocols}
    device = next(model.module.parameters(), torch.empty(0)).device
    for start in range(0, len(planes), BATCH):
        indices = np.arange(start, min(start + BATCH, len(planes)))
        images, labels = (tensor.to(device) for tensor in planes.tensors(indices))
        with precision(kind, device):
            embedding = model.encode(images)
            for protocol, scores in found.items():
                rng = generator(seed, f"validate {protocol}", step=start)
                answered = _answer(model, embedding, labels, protocol, rng)
                if answered is not None:
                    scores.append(_dice(*answered, thresholds))
    nothing = np.zeros(len(thresholds))
    return {k: np.concatenate(v, axis=1).mean(axis=1) if v else nothing for k, v in found.items()}


def _dice(logits: Tensor, wanted: Tensor, thresholds: tuple[float, ...]) -> NDArray[np.float64]:
    """(T, B) Dice of masks cut at each threshold."""
    rows = [dice_scores(logits.float() - threshold, wanted) for threshold in thresholds]
    return torch.stack(rows).double().cpu().numpy()


def _answer(
    model: Promptable, embedding: Embedding, labels: Tensor, protocol: str, rng: np.random.Generator
) -> tuple[Tensor, Tensor] | None:
    """Logits and the masks that were wanted; None if there is nothing to point at."""
    size = labels.shape[-1]
    if protocol == "auto":
        decoded = model.decode(embedding, to_tokens([Prompt()] * len(labels), size, labels.device))
        logits = decoded.masks
        if embedding.presence is not None:
            nothing = (embedding.presence < 0).view(-1, 1, 1, 1)
            logits = logits.masked_fill(nothing, _CERTAIN_NO)
        return logits, labels
    planes = labels.cpu().numpy() > 0.5
    prompts = {index: simulate(plane, protocol, rng) for index, plane in enumerate(planes)}
    keep = [index for index, found in prompts.items() if found]
    if not keep:
        return None
    tokens = to_tokens([prompts[index][0] for index in keep], size, labels.device)
    return model.decode(embedding.rows(keep), tokens).masks, _largest(labels[keep])


def _largest(labels: Tensor) -> Tensor:
    planes = [components(plane)[0] for plane in labels.cpu().numpy() > 0.5]
    return torch.from_numpy(np.stack(planes)).to(labels)
