"""What deep supervision compares: the levels of two models, or their blocks and adapters apart."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from samling.adapters.injection import Adapted, get_module
from samling.config import EmbeddingSection
from samling.distillation.deep_supervision import paired_levels, split_level, tap
from samling.errors import InputError
from samling.models.sam import Sam

SPLIT_LEVELS = 3
"""Levels whose parts are compared, the finest ones: strides 4, 8 and 16 in the paper."""


@dataclass(frozen=True)
class Supervision:
    """What one model shows to deep supervision.

    Args:
        levels: which of its levels, from fine to coarse; () without deep supervision.
        parts: whether each is shown as block, adapter and both together.
        widths: channels of what it shows, one after the other.
    """

    levels: tuple[int, ...]
    parts: bool
    widths: tuple[int, ...]

    def __call__(self, model: Sam, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """(B, 1, S, S) -> what is compared, and the model's own levels with the embedding last."""
        if not self.parts:
            every = model.levels(images)
            return [every[index] for index in self.levels], every
        taps = {f"{i} {kind}": m for i in self.levels for kind, m in _last(model, i).items()}
        with tap(taps) as seen:
            every = model.levels(images)
        shown: list[Tensor] = []
        for index in self.levels:
            block, adapter = seen[f"{index} block"], seen[f"{index} adapter"]
            if not model.sites["block"][0].channels_first:
                block = block.permute(0, 3, 1, 2)  # B, H, W, C -> B, C, H, W
            neck = model.image_encoder.lateral(index)
            shown += split_level(block, adapter.permute(0, 3, 1, 2), neck)
        return shown, every


NOTHING = Supervision((), False, ())


def supervise(
    student: Sam, teacher: Sam, section: EmbeddingSection
) -> tuple[Supervision, Supervision]:
    """What student and teacher show, pair by pair.

    Raises:
        InputError: their levels cannot be paired, or parts are asked for and one of them has no
            adapter beside the last block of a level.
    """
    if not section.levels:
        return NOTHING, NOTHING
    if section.supervise == "parts":
        return _of_parts(student), _of_parts(teacher)
    pairs = paired_levels(student.level_strides, teacher.level_strides)
    if pairs is None:
        problem = f"the teacher {teacher.architecture} has stages of strides "
        problem += f"{teacher.level_strides}, the student {student.architecture} of "
        problem += f"{student.level_strides}: they do not pair"
        raise InputError("embedding.levels", problem, "set it to 0, or choose another student")
    own = tuple(range(len(student.level_widths)))
    return (
        Supervision(own, False, student.level_widths),
        Supervision(tuple(pairs), False, tuple(teacher.level_widths[i] for i in pairs)),
    )


def _of_parts(model: Sam) -> Supervision:
    levels = tuple(range(SPLIT_LEVELS))
    for index in levels:
        _last(model, index)
    with torch.no_grad():
        shown, _ = Supervision(levels, True, ())(model, _blank(model))
    return Supervision(levels, True, tuple(part.shape[1] for part in shown))


def _blank(model: Sam) -> Tensor:
    side, device = model.input_size, next(model.parameters()).device
    return torch.zeros(1, 1, side, side, device=device)


def _last(model: Sam, stage: int) -> dict[str, nn.Module]:
    """The last block of a stage and the adapter beside its MLP (or MBConv).

    Raises:
        InputError: there is no such adapter.
    """
    sites = [s for kind in ("conv", "mlp") for s in model.sites.get(kind, []) if s.stage == stage]
    wrapper = get_module(model, sites[-1].path) if sites else None
    if not isinstance(wrapper, Adapted):
        problem = f"{model.architecture} has no adapter at the end of stage {stage}"
        remedy = (
            "use embedding.supervise=outputs, or adapters at conv and mlp in teacher and student"
        )
        raise InputError("embedding.supervise parts", problem, remedy)
    block = get_module(model, sites[-1].path.rpartition(".")[0])
    return {"block": block, "adapter": wrapper.adapter}
