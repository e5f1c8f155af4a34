"""Terms of decoupled distillation, by hand."""

import numpy as np
import pytest
import torch

from samling.distillation.decoupled import embedding_terms


def test_terms_by_hand():
    student, teacher = (torch.randn(2, 3, 4, 5) for _ in range(2))
    terms = embedding_terms(student, teacher)
    s, t = (x.numpy().transpose(0, 2, 3, 1).reshape(-1, 3) for x in (student, teacher))
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(s, t, strict=True)]
    assert set(terms) == {"mse", "cosine"}
    assert terms["mse"].item() == pytest.approx(((s - t) ** 2).mean(), rel=1e-5)
    assert terms["cosine"].item() == pytest.approx(1 - np.mean(cosines), rel=1e-5)


def test_equal_embeddings_cost_nothing_and_only_the_direction_is_free_of_scale():
    teacher = torch.randn(1, 8, 2, 2)
    same = embedding_terms(teacher, teacher)
    assert same["mse"].item() == 0
    assert same["cosine"].item() == pytest.approx(0, abs=1e-6)
    doubled = embedding_terms(2 * teacher, teacher)
    assert doubled["cosine"].item() == pytest.approx(0, abs=1e-6)
    assert doubled["mse"].item() == pytest.approx(teacher.square().mean().item(), rel=1e-5)
    assert embedding_terms(-teacher, teacher)["cosine"].item() == pytest.approx(2)


def test_gradients_are_finite_even_at_zero():
    student = torch.zeros(1, 4, 2, 2, requires_grad=True)
    sum(embedding_terms(student, torch.randn(1, 4, 2, 2)).values()).backward()
    assert torch.isfinite(student.grad).all()
