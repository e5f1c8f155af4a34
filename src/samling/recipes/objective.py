"""The prompted objective: simulate prompts from labels, decode, weigh and name the loss terms."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from samling.config import LossSection
from samling.losses import bce, boundary, clicked, dice, focal, hard_iou, mask_iou
from samling.models.contract import Embedding, MaskLogits, Promptable, PromptTokens
from samling.prompts.frame import Frame
from samling.prompts.prompt import Prompt
from samling.prompts.sampling import BoolArray, components, correct, objects, prompt_of

Terms = dict[str, Tensor]
BOX_JITTER = (0.0, 0.0, 0.05, 0.1, 0.15)
POINT_COUNTS = (1, 1, 3, 5)
CORRECTION_CHANCE = 0.5
MOST_CLICKS = 3
"""One to so many follow the first prompt of `clicks`, a box or a point, each half of the time."""
MASK_CHANCE = 0.5
"""Of `clicks`: the mask before goes along, as from a predictor; else not, as from a list of prompts."""


@dataclass(frozen=True)
class Answers:
    """The masks that a model is to give where it is not prompted.

    Args:
        names: of the classes; one without a name: all labels together.
        nested: each class lies inside the one before: its mask holds those after it.
    """

    names: tuple[str, ...] = ("",)
    nested: bool = False

    def masks(self, labels: Tensor) -> Tensor:
        """Class numbers (B, S, S) -> (B, K, S, S) in {0, 1}."""
        numbers = torch.arange(1, len(self.names) + 1, device=labels.device).view(1, -1, 1, 1)
        planes = labels.unsqueeze(1)
        inside = planes >= numbers if self.nested or len(self.names) == 1 else planes == numbers
        return inside.to(labels.dtype)

    def objects(self, plane: NDArray[np.uint8]) -> list[BoolArray]:
        """What a user may point at in class numbers (S, S): a liver is pointed at with its tumours."""
        if not self.nested:
            return objects(plane)
        return [part for k in range(1, plane.max() + 1) for part in components(plane >= k)]

    def prompts(self) -> list[Prompt]:
        """The automatic prompt of every class."""
        return [Prompt(class_index=index) for index in range(len(self.names))]


TOGETHER = Answers()


def automatic_tokens(answers: Answers, count: int, size: int, device: torch.device) -> PromptTokens:
    """The automatic prompts of all classes for `count` images."""
    tokens = to_tokens(answers.prompts(), size, device)
    # K, 1, N -> B, K, N
    coords, labels = tokens.coords.transpose(0, 1), tokens.labels.transpose(0, 1)
    return PromptTokens(coords.expand(count, -1, -1, -1), labels.expand(count, -1, -1))


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
    answers: Answers = TOGETHER,
    known: Tensor | None = None,
) -> Terms:
    """Loss terms of one prompt kind on an encoded batch.

    `automatic` wants every class at once from no prompt, or each of them where they are told apart;
    `box`, `points` and `clicks` want one object, drawn at random, of every image that has any.

    Args:
        labels: (B, S, S) float, classes, 0 for none.
        kind: `box`, `points`, `clicks` or `automatic`.
        known: (B, K) which classes the labels would show; the others teach nothing.

    Returns:
        Named terms; {} if no image has an object to point at.
    """
    if kind == "automatic":
        return _automatic_terms(model, embedding, labels, weights, answers, known)
    planes = labels.detach().cpu().numpy().astype(np.uint8)
    found = {i: parts for i, plane in enumerate(planes) if (parts := answers.objects(plane))}
    if not found:
        return {}
    targets = [parts[rng.integers(len(parts))] for parts in found.values()]
    keep = torch.tensor(list(found), device=labels.device)
    chosen = embedding.rows(keep)
    wanted = torch.from_numpy(np.stack(targets)).to(labels)
    prompts = _simulate(targets, kind, rng)
    clicks, with_mask = _clicks(kind, rng)
    for _ in range(clicks):
        prompts = corrected(model, chosen, prompts, targets, rng, with_mask)
    tokens = to_tokens(prompts, labels.shape[-1], labels.device)
    decoded = model.decode(chosen, tokens)
    terms = mask_terms(decoded, wanted, weights)
    if weights.clicked and len(prompts[0].points):
        points = torch.from_numpy(np.stack([prompt.points for prompt in prompts]))
        inside = torch.from_numpy(np.stack([prompt.point_labels for prompt in prompts]))
        terms["clicked"] = clicked(_enlarged(decoded.masks, wanted), points, inside)
    return terms


def mask_terms(
    decoded: MaskLogits, wanted: Tensor, weights: LossSection, importance: Tensor | None = None
) -> Terms:
    """Terms of single masks (B, 1, h, w) against (B, S, S); `importance` weighs pixels for `bce`."""
    logits = _enlarged(decoded.masks, wanted)
    terms: Terms = {}
    if weights.focal:
        terms["focal"] = focal(logits, wanted)
    if weights.bce:
        terms["bce"] = bce(logits, wanted, importance)
    if weights.dice:
        terms["dice"] = dice(logits, wanted)
    if weights.cross_entropy:
        terms["cross_entropy"] = F.binary_cross_entropy_with_logits(logits, wanted)
    if weights.mask_iou:
        terms["mask_iou"] = mask_iou(logits, wanted, decoded.quality.float().squeeze(1))
    if weights.boundary:
        terms["boundary"] = boundary(logits, wanted, weights.boundary_form)
    return terms


def _enlarged(logits: Tensor, wanted: Tensor) -> Tensor:
    """(B, 1, h, w) as float32 (B, S, S), the size of the labels."""
    return F.interpolate(logits.float(), list(wanted.shape[-2:]), mode="bilinear").squeeze(1)


def weighted_sum(terms: Terms, weights: LossSection) -> Tensor:
    """Σ weight · term over the terms that are there."""
    factors = weights.model_dump(exclude={"boundary_form", "inner"})
    return torch.stack([factors[name] * value for name, value in terms.items()]).sum()


@torch.no_grad()
def dice_scores(logits: Tensor, wanted: Tensor) -> Tensor:
    """(B,) Dice of `logits > 0` at the label's size; two empty masks score 1."""
    iou = hard_iou(_enlarged(logits, wanted), wanted)
    return 2 * iou / (1 + iou)


def _automatic_terms(
    model: Promptable,
    embedding: Embedding,
    labels: Tensor,
    weights: LossSection,
    answers: Answers,
    known: Tensor | None,
) -> Terms:
    count, size = len(labels), labels.shape[-1]
    decoded = model.decode(embedding, automatic_tokens(answers, count, size, labels.device))
    wanted = answers.masks(labels)
    if known is None:
        known = torch.ones(wanted.shape[:2], dtype=torch.bool, device=labels.device)
    if not known.any():
        return {}
    importance = None
    if weights.inner != 1:
        weight = torch.where(labels > 1, weights.inner, 1.0)
        importance = weight.unsqueeze(1).expand_as(wanted)[known]
    # B, K, ... -> M, ... of what is known
    chosen = MaskLogits(decoded.masks[known].unsqueeze(1), decoded.quality[known].unsqueeze(1))
    terms = mask_terms(chosen, wanted[known], weights, importance)
    if weights.presence and embedding.presence is not None:
        there = wanted.flatten(2).amax(2)[known]
        scores = embedding.presence.float().view(count, -1)[known]
        terms["presence"] = F.binary_cross_entropy_with_logits(scores, there)
    return terms


def _simulate(targets: list[BoolArray], kind: str, rng: np.random.Generator) -> list[Prompt]:
    first = str(rng.choice(["box", "points"])) if kind == "clicks" else kind
    if first == "box":
        amounts = rng.choice(BOX_JITTER, len(targets))
        names = [f"jitter{int(a * 100)}" if a else "box" for a in amounts]
    else:
        count = 1 if kind == "clicks" else rng.choice(POINT_COUNTS)
        names = [f"point{count}"] * len(targets)
    return [prompt_of(target, name, rng) for target, name in zip(targets, names, strict=True)]


def _clicks(kind: str, rng: np.random.Generator) -> tuple[int, bool]:
    """How many clicks follow the first prompt, and whether the mask before each goes along."""
    if kind == "clicks":
        return int(rng.integers(1, MOST_CLICKS + 1)), bool(rng.random() < MASK_CHANCE)
    return int(kind == "points" and rng.random() < CORRECTION_CHANCE), True


@torch.no_grad()
def corrected(
    model: Promptable,
    embedding: Embedding,
    prompts: list[Prompt],
    targets: list[BoolArray],
    rng: np.random.Generator,
    with_mask: bool = True,
) -> list[Prompt]:
    """Decode, then click where it is most wrong; all prompts are of one shape, before and after.

    Args:
        prompts: one per row of the embedding.
        targets: (S, S) what each of them means.
        with_mask: the logits (4h, 4w) go along with the next prompt; else it has none.
    """
    size = targets[0].shape[0]
    decoded = model.decode(embedding, to_tokens(prompts, size, embedding.image.device))
    low = decoded.masks.float()
    full = F.interpolate(low, [size, size], mode="bilinear").squeeze(1).cpu().numpy()
    better = []
    for index, (prompt, target) in enumerate(zip(prompts, targets, strict=True)):
        further = correct(prompt, target, full[index] > 0, rng)
        if further is prompt:  # nothing wrong: one more point inside keeps the batch's shape
            extra = prompt_of(target, "point1", rng)
            further = replace(
                prompt,
                points=np.concatenate([prompt.points, extra.points]),
                point_labels=np.append(prompt.point_labels, 1),
            )
        better.append(replace(further, mask=low[index, 0].cpu().numpy() if with_mask else None))
    return better
