"""The prompted objective: simulate prompts from labels, decode, weigh and name the loss terms."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from samling.config import LossSection
from samling.losses import boundary, dice, focal, hard_iou, mask_iou
from samling.models.contract import Embedding, MaskLogits, Promptable, PromptTokens
from samling.prompts.frame import Frame
from samling.prompts.prompt import Prompt
from samling.prompts.sampling import BoolArray, components, correct, prompt_of

Terms = dict[str, Tensor]
BOX_JITTER = (0.0, 0.0, 0.05, 0.1, 0.15)
POINT_COUNTS = (1, 1, 3, 5)
CORRECTION_CHANCE = 0.5


def to_tokens(prompts: list[Prompt], size: int, device: torch.device) -> PromptTokens:
    """Prompts of B images, one each and all of one shape, in a square of `size` px."""
    frame = Frame(size, size, size)
    pairs = [prompt.tokens(frame) for prompt in prompts]
    coords = torch.from_numpy(np.stack([coords for coords, _ in pairs])).unsqueeze(1)
    labels = torch.from_numpy(np.stack([labels for _, labels in pairs])).unsqueeze(1)
    masks = None
    if prompts[0].mask is not None:
        stacked = np.stack([prompt.mask for prompt in prompts if prompt.mask is not None])
        masks = torch.from_numpy(stacked).unsqueeze(1).to(device)
    return PromptTokens(coords.to(device), labels.to(device), masks)


def prompted_terms(
    model: Promptable,
    embedding: Embedding,
    labels: Tensor,
    kind: str,
    weights: LossSection,
    rng: np.random.Generator,
) -> Terms:
    """Loss terms of one prompt kind on an encoded batch.

    `automatic` wants the whole label from no prompt; `box` and `points` want one component, drawn
    at random, of every image that has any.

    Args:
        labels: (B, S, S) float 0 or 1.
        kind: `box`, `points` or `automatic`.

    Returns:
        Named terms; {} if no image has an object to point at.
    """
    if kind == "automatic":
        return _automatic_terms(model, embedding, labels, weights)
    planes = labels.detach().cpu().numpy() > 0.5
    found = {index: parts for index, plane in enumerate(planes) if (parts := components(plane))}
    if not found:
        return {}
    targets = [parts[rng.integers(len(parts))] for parts in found.values()]
    keep = torch.tensor(list(found), device=labels.device)
    chosen = embedding.rows(keep)
    wanted = torch.from_numpy(np.stack(targets)).to(labels)
    prompts = _simulate(targets, kind, rng)
    if kind == "points" and rng.random() < CORRECTION_CHANCE:
        prompts = _corrected(model, chosen, prompts, targets, rng)
    tokens = to_tokens(prompts, labels.shape[-1], labels.device)
    return mask_terms(model.decode(chosen, tokens), wanted, weights)


def mask_terms(decoded: MaskLogits, wanted: Tensor, weights: LossSection) -> Terms:
    """Focal, Dice, mask-IoU and boundary terms of single masks (B, 1, h, w) against (B, S, S)."""
    size = list(wanted.shape[-2:])
    logits = F.interpolate(decoded.masks.float(), size, mode="bilinear").squeeze(1)
    terms: Terms = {}
    if weights.focal:
        terms["focal"] = focal(logits, wanted)
    if weights.dice:
        terms["dice"] = dice(logits, wanted)
    if weights.cross_entropy:
        terms["cross_entropy"] = F.binary_cross_entropy_with_logits(logits, wanted)
    if weights.mask_iou:
        terms["mask_iou"] = mask_iou(logits, wanted, decoded.quality.float().squeeze(1))
    if weights.boundary:
        terms["boundary"] = boundary(logits, wanted, weights.boundary_form)
    return terms


def weighted_sum(terms: Terms, weights: LossSection) -> Tensor:
    """Σ weight · term over the terms that are there."""
    factors = weights.model_dump(exclude={"boundary_form"})
    return torch.stack([factors[name] * value for name, value in terms.items()]).sum()


@torch.no_grad()
def dice_scores(logits: Tensor, wanted: Tensor) -> Tensor:
    """(B,) Dice of `logits > 0` at the label's size; two empty masks score 1."""
    full = F.interpolate(logits.float(), list(wanted.shape[-2:]), mode="bilinear").squeeze(1)
    iou = hard_iou(full, wanted)
    return 2 * iou / (1 + iou)


def _automatic_terms(
    model: Promptable, embedding: Embedding, labels: Tensor, weights: LossSection
) -> Terms:
    tokens = to_tokens([Prompt()] * len(labels), labels.shape[-1], labels.device)
    terms = mask_terms(model.decode(embedding, tokens), labels, weights)
    if weights.presence and embedding.presence is not None:
        there = labels.flatten(1).amax(1)
        terms["presence"] = F.binary_cross_entropy_with_logits(embedding.presence.float(), there)
    return terms


def _simulate(targets: list[BoolArray], kind: str, rng: np.random.Generator) -> list[Prompt]:
    if kind == "box":
        amounts = rng.choice(BOX_JITTER, len(targets))
        names = [f"jitter{int(a * 100)}" if a else "box" for a in amounts]
    else:
        names = [f"point{rng.choice(POINT_COUNTS)}"] * len(targets)
    return [prompt_of(target, name, rng) for target, name in zip(targets, names, strict=True)]


@torch.no_grad()
def _corrected(
    model: Promptable,
    embedding: Embedding,
    prompts: list[Prompt],
    targets: list[BoolArray],
    rng: np.random.Generator,
) -> list[Prompt]:
    """Decode once, click where it is most wrong, and hand the first mask over as a prompt."""
    size = targets[0].shape[0]
    decoded = model.decode(embedding, to_tokens(prompts, size, embedding.image.device))
    low = decoded.masks.float()
    full = F.interpolate(low, [size, size], mode="bilinear").squeeze(1).cpu().numpy()
    corrected = []
    for index, (prompt, target) in enumerate(zip(prompts, targets, strict=True)):
        better = correct(prompt, target, full[index] > 0, rng)
        if better is prompt:  # nothing wrong: one more point inside keeps the batch's shape
            extra = prompt_of(target, "point1", rng)
            better = Prompt(
                points=np.concatenate([prompt.points, extra.points]),
                point_labels=np.append(prompt.point_labels, 1),
            )
        mask = low[index, 0].cpu().numpy()
        corrected.append(Prompt(points=better.points, point_labels=better.point_labels, mask=mask))
    return corrected
