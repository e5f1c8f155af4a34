"""Validation by hand: an oracle whose answers are known; the threshold that suits a timid model."""

import numpy as np
import pytest
import torch

from samling.config import TrainingSection
from samling.data.batches import Planes
from samling.models.contract import Embedding, MaskLogits, PromptTokens
from samling.models.sam import Sam
from samling.prompts.prompt import Token
from samling.recipes.validation import best_threshold, score

SIDE = 64


def planes(count=6, empty=()):
    """A bright rectangle on noise, each somewhere else; none where `empty`."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (count, SIDE, SIDE)).astype(np.uint8)
    labels = np.zeros_like(images)
    for index in range(count):
        if index not in empty:
            y, x = rng.integers(2, 30, 2)
            labels[index, y : y + 24, x : x + 30] = 1
    return Planes(images + labels * 150, labels, tuple(map(str, range(count))))


def settings(**changes):
    return TrainingSection.model_validate({"precision": "fp32"} | changes)


class Oracle(torch.nn.Module):
    """Fills boxes; finds bright pixels in automatic mode; says presence by the image's maximum."""

    @property
    def module(self):
        return self

    def encode(self, images):
        return Embedding(images, images.amax(dim=(1, 2, 3)) - 0.5)

    def decode(self, embedding, prompts):
        y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
        planes = []
        for image, coords, labels in zip(
            embedding.image[:, 0], prompts.coords[:, 0], prompts.labels[:, 0], strict=True
        ):
            inside = image > 0.4
            if labels[0] == Token.TOP_LEFT:
                (x0, y0), (x1, y1) = coords.tolist()
                inside = (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
            elif labels[0] == Token.POSITIVE:
                inside = torch.zeros_like(inside)
            planes.append(torch.where(inside, 9.0, -9.0))
        return MaskLogits(torch.stack(planes).unsqueeze(1), torch.zeros(len(planes), 1))


def test_validation_scores_by_hand():
    some = planes(3, empty=[1])
    some.images[2] = np.minimum(some.images[2], 100)  # too dark: presence says no
    scores = score(Oracle(), settings(), some, None, 0, "fp32")
    assert scores["box"] == 1  # rectangles are their boxes; the empty image has none
    assert scores["point1"] == 0
    assert scores["auto"] == pytest.approx(2 / 3)  # found, rightly nothing, wrongly nothing
    assert scores["score"] == pytest.approx((1 + 0 + 2 / 3) / 3)


class Clicked(Oracle):
    """Fills boxes once it has been clicked at three times; remembers its prompts."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def decode(self, embedding, prompts):
        self.seen.append(prompts)
        boxes = PromptTokens(prompts.coords[..., -2:, :], prompts.labels[..., -2:])
        masks = super().decode(embedding, boxes).masks
        if (prompts.labels == Token.POSITIVE).sum(-1).min() < 3:
            masks = -masks.abs()
        return MaskLogits(masks, torch.zeros(len(masks), 1))


def test_validation_of_clicks_asks_again_after_a_box():
    model = Clicked()
    scores = score(model, settings(prompts=["clicks"]), planes(3, empty=[1]), None, 0, "fp32")
    assert scores == {"boxclicks3": 1, "score": 1}
    first, *_, last = model.seen
    assert first.labels[0, 0].tolist() == [Token.TOP_LEFT, Token.BOTTOM_RIGHT]
    assert (last.labels == Token.POSITIVE).sum(-1).tolist() == [[3], [3]]  # all was missed
    assert first.masks is None and last.masks.shape == (2, 1, SIDE, SIDE)
    assert len(model.seen) == 4


def test_validation_looks_at_the_largest_component():
    some = planes(1)
    some.labels[0, -5:, -5:] = 1  # a second, smaller one
    section = settings(prompts=["box"])
    scores = score(Oracle(), section, some, None, 0, "fp32")
    assert scores == {"box": 1, "score": 1}


def test_validation_repeats_itself_and_leaves_no_gradients():
    torch.manual_seed(2)
    model = Sam("tiny", SIDE).eval()
    first, again = (score(model, settings(), planes(3), None, 0, "fp32") for _ in range(2))
    assert first == again
    assert all(p.grad is None for p in model.parameters())


class Timid(Oracle):
    """Sees the rectangles dimly: its logits are 0.6 too low."""

    def decode(self, embedding, prompts):
        image = embedding.image
        return MaskLogits((image > 0.4) * 1.0 - 1.6, torch.zeros(len(image), 1))


def test_the_threshold_makes_up_for_timid_logits():
    section = settings(prompts=["box", "automatic"])
    threshold, before, after = best_threshold(Timid(), section, planes(4), None, 0, "fp32")
    assert (before, after) == (0, 1)
    assert threshold == -0.75  # the nearest to 0 of those between -1.6 and -0.6


def test_of_equal_thresholds_zero_is_taken():
    section = settings(prompts=["box"])
    assert best_threshold(Oracle(), section, planes(2), None, 0, "fp32") == (0.0, 1.0, 1.0)
