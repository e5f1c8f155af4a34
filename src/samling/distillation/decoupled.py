"""Decoupled distillation (MobileSAM, arXiv 2306.14289): regress the teacher's image embedding."""

from torch import Tensor
from torch.nn import functional as F


def embedding_terms(student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
    """Terms between embeddings (B, C, h, w) on one grid.

    `mse`: mean squared error. `cosine`: 1 - cosine of the C-vectors, mean over cells: the direction
    counts even where the embedding is small.
    """
    return {
        "mse": F.mse_loss(student, teacher),
        "cosine": 1 - F.cosine_similarity(student, teacher, dim=1).mean(),
    }
