"""The objective: named finite terms for every prompt kind, sums by hand, prompts on their targets."""

import numpy as np
import pytest
import torch

from samling.config import LossSection
from samling.losses import boundary, dice, focal
from samling.models.contract import Embedding, MaskLogits
from samling.models.sam import Sam
from samling.prompts.prompt import AUTOMATIC_TOKENS, Prompt, Token
from samling.prompts.sampling import tight_box
from samling.recipes.objective import (
    Answers,
    automatic_tokens,
    corrected,
    dice_scores,
    mask_terms,
    prompted_terms,
    to_tokens,
    weighted_sum,
)

SIDE = 64
WEIGHTS = LossSection()
MASK_TERMS = {"focal", "dice", "mask_iou", "boundary"}


def rectangles():
    """(4, 64, 64): none, one, two, one."""
    labels = torch.zeros(4, SIDE, SIDE)
    labels[1, 10:30, 20:50] = 1
    labels[2, 5:15, 5:25] = 1
    labels[2, 40:60, 30:60] = 1
    labels[3, 30:50, 4:20] = 1
    return labels


class Painter:
    """Fills the box; around points a square; automatic: the embedding. Remembers its prompts."""

    input_size = embedding_size = SIDE

    def __init__(self):
        self.seen = []

    def decode(self, embedding, prompts):
        self.seen.append(prompts)
        assert len(embedding.image) == len(prompts.coords)
        y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
        planes = []
        for index, (coords, labels) in enumerate(
            zip(prompts.coords[:, 0], prompts.labels[:, 0], strict=True)
        ):
            if labels[0] >= Token.AUTOMATIC:
                inside = embedding.image[index, 0] > 0.5
            elif labels[-1] == Token.BOTTOM_RIGHT:
                (x0, y0), (x1, y1) = coords[-2].tolist(), coords[-1].tolist()
                inside = (x >= x0 - 0.5) & (x <= x1 + 0.5) & (y >= y0 - 0.5) & (y <= y1 + 0.5)
            else:
                inside = (x - coords[0, 0]).abs().maximum((y - coords[0, 1]).abs()) <= 3
            planes.append(torch.where(inside, 20.0, -20.0))
        masks = torch.stack(planes).unsqueeze(1)
        return MaskLogits(masks, torch.full((len(masks), 1), 0.5))


def embedding_of(labels):
    return Embedding(labels.unsqueeze(1).clone(), torch.zeros(len(labels)))


@pytest.fixture(scope="module")
def sam():
    torch.manual_seed(1)
    return Sam("light", SIDE).eval()


@pytest.mark.parametrize("kind", ["box", "points", "clicks", "automatic"])
@pytest.mark.parametrize("form", ["kervadec", "hausdorff"])
def test_terms_are_named_finite_and_have_gradients(sam, kind, form):
    labels = rectangles()
    embedding = sam.encode(torch.rand(4, 1, SIDE, SIDE))
    weights = LossSection(boundary_form=form)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        terms = prompted_terms(sam, embedding, labels, kind, weights, rng)
        extra = {"presence"} if kind == "automatic" else set()
        assert set(terms) == MASK_TERMS | extra
        assert all(value.ndim == 0 and torch.isfinite(value) for value in terms.values())
        weighted_sum(terms, weights).backward(retain_graph=True)
    gradients = [p.grad for p in sam.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert sam.image_encoder.patch_embed[0].c.weight.grad.any()
    sam.zero_grad()


@pytest.mark.parametrize("kind", ["box", "points", "clicks", "automatic"])
def test_clicks_cost_where_the_mask_contradicts_them(kind):
    """The painter is sure (±20): a clicked pixel costs nothing, or 20."""
    labels = rectangles()
    labels[:, 15, 22] = 0  # a hole in the second's box
    weights = LossSection(clicked=1)
    painter, seen = Painter(), []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        terms = prompted_terms(painter, embedding_of(labels), labels, kind, weights, rng)
        assert ("clicked" in terms) == (kind in ("points", "clicks"))
        seen.append(terms.get("clicked", torch.zeros(())))
    values = torch.stack(seen)
    assert ((values >= 0) & (values <= 20)).all()
    assert (values > 1).any() == (kind in ("points", "clicks"))


@pytest.mark.parametrize("kind", ["box", "points", "clicks"])
def test_a_batch_without_objects_has_nothing_to_point_at(sam, kind):
    labels = torch.zeros(2, SIDE, SIDE)
    embedding = sam.encode(torch.rand(2, 1, SIDE, SIDE))
    rng = np.random.default_rng(0)
    assert prompted_terms(sam, embedding, labels, kind, WEIGHTS, rng) == {}


def test_empty_labels_teach_automatic_mode_to_find_nothing(sam):
    labels = torch.zeros(2, SIDE, SIDE)
    embedding = sam.encode(torch.rand(2, 1, SIDE, SIDE))
    rng = np.random.default_rng(0)
    terms = prompted_terms(sam, embedding, labels, "automatic", WEIGHTS, rng)
    assert set(terms) == MASK_TERMS | {"presence"}
    expected = torch.nn.functional.softplus(embedding.presence).mean()  # -log(1 - sigmoid)
    torch.testing.assert_close(terms["presence"], expected)


def test_presence_wants_to_know_whether_anything_is_there():
    labels = rectangles()
    presence = torch.tensor([-2.0, 1.0, 0.5, 3.0])
    embedding = Embedding(labels.unsqueeze(1), presence)
    rng = np.random.default_rng(0)
    terms = prompted_terms(Painter(), embedding, labels, "automatic", WEIGHTS, rng)
    p = torch.sigmoid(presence)
    expected = -(torch.log(1 - p[0]) + torch.log(p[1:]).sum()) / 4
    torch.testing.assert_close(terms["presence"], expected)
    assert terms["dice"] < 1e-3  # automatic mode is asked for the whole label


def test_without_presence_there_is_no_such_term():
    labels = rectangles()
    embedding = Embedding(labels.unsqueeze(1), None)
    rng = np.random.default_rng(0)
    assert (
        set(prompted_terms(Painter(), embedding, labels, "automatic", WEIGHTS, rng)) == MASK_TERMS
    )


def test_each_box_belongs_to_one_component_of_its_own_image():
    labels, areas = rectangles(), set()
    for seed in range(10):
        painter = Painter()
        rng = np.random.default_rng(seed)
        terms = prompted_terms(painter, embedding_of(labels), labels, "box", WEIGHTS, rng)
        [prompts] = painter.seen
        assert prompts.coords.shape == (3, 1, 2, 2)  # the empty image has no prompt
        assert terms["dice"] < 0.2  # filling the box is right up to the jitter
        assert terms["focal"] < 2
        corners = prompts.coords[1, 0]
        areas.add("small" if corners[1, 0] < 30 else "large")
    assert areas == {"small", "large"}


def test_points_come_in_one_number_per_batch_and_half_of_the_time_with_a_correction():
    labels, corrected = rectangles(), 0
    counts = set()
    for seed in range(40):
        painter = Painter()
        rng = np.random.default_rng(seed)
        prompted_terms(painter, embedding_of(labels), labels, "points", WEIGHTS, rng)
        last = painter.seen[-1]
        given = last.labels[:, 0]
        assert (given[:, -1] == Token.PADDING).all()
        assert (given[:, 0] == Token.POSITIVE).all()
        if len(painter.seen) == 1:
            assert last.masks is None
            assert (given[:, :-1] == Token.POSITIVE).all()
            counts.add(given.shape[1] - 1)
            continue
        corrected += 1
        first = painter.seen[0]
        assert given.shape[1] == first.labels.shape[2] + 1
        assert last.masks.shape == (3, 1, SIDE, SIDE)
        # The painter's square is too small: the click is inside the object, outside the square
        x, y = (last.coords[:, 0, -2] + 0.5).long().unbind(1)
        assert (given[:, -2] == Token.POSITIVE).all()
        assert labels[1:][torch.arange(3), y, x].all()
        assert (last.masks[torch.arange(3), 0, y, x] < 0).all()
    assert counts == {1, 3, 5}
    assert 10 < corrected < 30


class Missing(Painter):
    """Finds nothing at all."""

    def decode(self, embedding, prompts):
        masks = super().decode(embedding, prompts).masks
        return MaskLogits(-masks.abs(), torch.full((len(masks), 1), 0.5))


def test_clicks_follow_a_box_or_a_point_with_the_mask_before_or_without():
    labels, seen, boxes = rectangles(), set(), set()
    for seed in range(60):
        painter = Missing()
        rng = np.random.default_rng(seed)
        prompted_terms(painter, embedding_of(labels), labels, "clicks", WEIGHTS, rng)
        first, last = painter.seen[0], painter.seen[-1]
        boxed = bool((first.labels == Token.TOP_LEFT).any())
        clicks = len(painter.seen) - 1
        assert first.masks is None
        assert ((last.labels == Token.TOP_LEFT).sum(-1) == boxed).all()
        assert ((last.labels == Token.POSITIVE).sum(-1) == clicks + (not boxed)).all()
        seen.add((boxed, clicks, last.masks is not None))
        boxes |= {tuple(first.coords[0, 0].flatten().tolist())} if boxed else set()
    assert seen == {(b, n, m) for b in (True, False) for n in (1, 2, 3) for m in (True, False)}
    assert len(boxes) > 5  # of one object: moved as boxes are


def test_where_nothing_is_wrong_a_click_inside_keeps_the_shape_and_the_box():
    labels = rectangles()[[1, 3]]
    targets = [label.numpy() > 0 for label in labels]
    boxes = [Prompt(box=tight_box(target)) for target in targets]
    rng = np.random.default_rng(0)
    again = corrected(Painter(), embedding_of(labels), boxes, targets, rng, with_mask=False)
    for before, after, target in zip(boxes, again, targets, strict=True):
        x, y = after.points[0].astype(int)
        assert target[y, x] and after.point_labels.tolist() == [1]
        assert after.box is before.box and after.mask is None


def test_the_same_generator_gives_the_same_terms():
    labels = rectangles()
    for kind in ("box", "points", "clicks"):
        first, again = (
            prompted_terms(
                Painter(), embedding_of(labels), labels, kind, WEIGHTS, np.random.default_rng(4)
            )
            for _ in range(2)
        )
        assert all(torch.equal(first[name], again[name]) for name in first)


def test_mask_terms_are_the_losses_at_the_size_of_the_label():
    wanted = rectangles()[1:]
    low = torch.randn(3, 1, 16, 16)
    terms = mask_terms(MaskLogits(low, torch.full((3, 1), 0.4)), wanted, WEIGHTS)
    logits = torch.nn.functional.interpolate(low, [SIDE, SIDE], mode="bilinear")[:, 0]
    torch.testing.assert_close(terms["focal"], focal(logits, wanted))
    torch.testing.assert_close(terms["dice"], dice(logits, wanted))
    torch.testing.assert_close(terms["boundary"], boundary(logits, wanted))
    inter = ((logits > 0) & (wanted > 0)).sum((1, 2))
    union = ((logits > 0) | (wanted > 0)).sum((1, 2))
    torch.testing.assert_close(terms["mask_iou"], (0.4 - inter / union).square().mean())


@pytest.mark.parametrize("off", ["focal", "dice", "mask_iou", "boundary", "presence"])
def test_a_weight_of_zero_switches_the_term_off(off):
    labels = rectangles()
    weights = LossSection(**{off: 0})
    rng = np.random.default_rng(0)
    terms = prompted_terms(Painter(), embedding_of(labels), labels, "automatic", weights, rng)
    assert set(terms) == (MASK_TERMS | {"presence"}) - {off}


def test_weighted_sum_by_hand():
    names = ("focal", "dice", "mask_iou", "boundary", "presence")
    terms = {name: torch.tensor(float(i + 1)) for i, name in enumerate(names)}
    assert weighted_sum(terms, WEIGHTS).item() == 20 * 1 + 1 * 2 + 1 * 3 + 2 * 4 + 1 * 5
    del terms["presence"], terms["dice"]
    assert weighted_sum(terms, LossSection(focal=3)).item() == 3 * 1 + 1 * 3 + 2 * 4


def test_dice_scores_by_hand():
    wanted = torch.zeros(3, 8, 8)
    wanted[0, :4] = 1
    wanted[1, :4] = 1
    logits = torch.full((3, 1, 8, 8), -1.0)
    logits[0, 0, 2:6] = 1
    scores = dice_scores(logits, wanted)
    assert scores.tolist() == pytest.approx([2 * 16 / (32 + 32), 0, 1])


def test_to_tokens_stacks_one_prompt_per_image():
    device = torch.device("cpu")
    boxes = [Prompt(box=tight_box(label.numpy() > 0)) for label in rectangles()[[1, 3]]]
    tokens = to_tokens(boxes, SIDE, device)
    assert tokens.coords[:, 0].tolist() == [[[20, 10], [49, 29]], [[4, 30], [19, 49]]]
    assert tokens.labels.shape == (2, 1, 2)
    assert tokens.masks is None
    automatic = to_tokens([Prompt()] * 3, SIDE, device)
    assert automatic.labels.shape == (3, 1, AUTOMATIC_TOKENS)
    masks = [Prompt(mask=np.full((16, 16), i, np.float32)) for i in range(2)]
    assert to_tokens(masks, SIDE, device).masks[:, 0, 0, 0].tolist() == [0, 1]


NESTED = Answers(("liver", "tumour"), nested=True)


def test_nested_classes_hold_those_inside_them():
    labels = torch.tensor([[[0.0, 1.0, 2.0]]])
    assert NESTED.masks(labels).tolist() == [[[[0, 1, 1]], [[0, 0, 1]]]]
    assert Answers(("nerve", "vessel")).masks(labels).tolist() == [[[[0, 1, 0]], [[0, 0, 1]]]]
    assert Answers().masks(labels).tolist() == [[[[0, 1, 1]]]]


def test_every_class_has_tokens_of_its_own():
    tokens = automatic_tokens(NESTED, 3, SIDE, torch.device("cpu"))
    assert tokens.coords.shape == (3, 2, AUTOMATIC_TOKENS, 2)
    assert tokens.labels[1].tolist() == [[4, 5, 6, 7], [8, 9, 10, 11]]


class Fixed:
    """Gives the same logits for every class of every image."""

    def decode(self, embedding, prompts):
        batch, classes = prompts.labels.shape[:2]
        masks = embedding.image.expand(batch, classes, -1, -1)
        return MaskLogits(masks, torch.full((batch, classes), 0.5))


def test_a_class_that_labels_cannot_show_teaches_nothing():
    torch.manual_seed(1)
    labels = torch.randint(0, 3, (2, 8, 8)).float()
    embedding = Embedding(torch.randn(2, 1, 8, 8), torch.tensor([[0.3, -0.2], [0.1, 0.4]]))
    weights = LossSection(focal=0, mask_iou=0, boundary=0, bce=1, inner=3)
    known = torch.tensor([[True, True], [True, False]])
    rng = np.random.default_rng(0)
    terms = prompted_terms(Fixed(), embedding, labels, "automatic", weights, rng, NESTED, known)
    rows = [(0, labels[0] >= 1), (0, labels[0] == 2), (1, labels[1] >= 1)]
    logits = torch.stack([embedding.image[index, 0] for index, _ in rows])
    wanted = torch.stack([mask.float() for _, mask in rows])
    torch.testing.assert_close(terms["dice"], dice(logits, wanted))
    # cross-entropy by hand: pixels of the tumour count three times, in both classes' masks
    importance = torch.stack([1 + 2 * (labels[index] == 2) for index, _ in rows])
    costs = -(wanted * logits.sigmoid().log() + (1 - wanted) * (-logits).sigmoid().log())
    torch.testing.assert_close(terms["bce"], (costs * importance).sum() / importance.sum())
    scores = torch.tensor([0.3, -0.2, 0.1])
    torch.testing.assert_close(terms["presence"], (-scores.sigmoid().log()).mean())
    assert not prompted_terms(
        Fixed(), embedding, labels, "automatic", weights, rng, NESTED, torch.zeros(2, 2).bool()
    )


def test_a_box_points_at_one_class_of_nested_ones():
    labels = torch.zeros(1, SIDE, SIDE)
    labels[0, 4:40, 6:50] = 1
    labels[0, 10:20, 12:26] = 2
    boxes = set()
    for seed in range(12):
        painter = Painter()
        embedding = Embedding(torch.zeros(1, 1, SIDE, SIDE), None)
        rng = np.random.default_rng(seed)
        prompted_terms(painter, embedding, labels, "box", WEIGHTS, rng, NESTED)
        coords = painter.seen[0].coords[0, 0]
        boxes.add("tumour" if coords[-1, 0] - coords[-2, 0] < 25 else "liver")
    assert boxes == {"liver", "tumour"}
