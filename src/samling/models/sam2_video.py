"""SAM 2's video mode (Ravi et al. 2024, arXiv 2408.00714): transformers' modules, bounded memory."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.models.sam2_video.modeling_sam2_video import (
    Sam2VideoInferenceSession,
    Sam2VideoModel,
)

from samling.errors import InputError
from samling.models.sam import IMAGENET_DEVIATION, IMAGENET_MEAN

Array = NDArray[np.float32]


class Sam2Memory:
    """One object in a loop: prompted on a frame, found on the next ones by attention to what was seen.

    SAM 2 attends to the prompted frame, six masks before and sixteen object pointers. transformers
    keeps every frame and every answer; here what can no longer be attended to is dropped.

    Args:
        model: in evaluation mode. It sees a square of `size` pixels.
    """

    def __init__(self, model: Sam2VideoModel) -> None:
        self.model, self.size = model, int(model.config.image_size)
        self.kept = max(model.config.num_maskmem, model.config.max_object_pointers_in_encoder)
        self._session: Sam2VideoInferenceSession | None = None
        self._number = 0
        mean, deviation = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_DEVIATION)
        self._mean, self._deviation = mean.view(1, 3, 1, 1), deviation.view(1, 3, 1, 1)

    def start(self, image: Array, coords: Array, labels: NDArray[np.int64]) -> tuple[Array, float]:
        """Forget everything and prompt a frame.

        Args:
            image: (S, S) in [0, 1].
            coords: (N, 2) x, y in pixel indices of the square.
            labels: (N,) 1 inside, 0 outside, 2 and 3 the corners of a box.

        Returns:
            (S / 4, S / 4) mask logits and the probability that the object is in the frame.
        """
        device = next(self.model.parameters()).device
        session = Sam2VideoInferenceSession(
            None, self.size, self.size, device, device, device, dtype=torch.float32
        )
        number = session.obj_id_to_idx(1)
        points = {
            "point_coords": torch.from_numpy(coords).float().view(1, 1, -1, 2).to(device),
            "point_labels": torch.from_numpy(labels).int().view(1, 1, -1).to(device),
        }
        session.add_point_inputs(number, 0, points)
        session.obj_with_new_inputs = [1]
        self._session, self._number = session, 0
        return self._run(image)

    def step(self, image: Array) -> tuple[Array, float]:
        """The object on the next frame, (S, S) in [0, 1]; forwards or backwards is the caller's choice.

        Raises:
            ValueError: `start` was not called.
        """
        if self._session is None:
            raise ValueError("a memory is stepped before it was started")
        self._number += 1
        return self._run(image)

    @torch.inference_mode()
    def _run(self, image: Array) -> tuple[Array, float]:
        session = self._session
        assert session is not None, "start and step made sure"
        plane = torch.from_numpy(image).view(1, 1, self.size, self.size).expand(-1, 3, -1, -1)
        pixels = (plane - self._mean) / self._deviation
        out = self.model(session, frame_idx=self._number, frame=pixels)
        self._forget(session)
        present = torch.sigmoid(out.object_score_logits.float()).item()
        return out.pred_masks[0, 0].float().cpu().numpy(), present

    def _forget(self, session: Sam2VideoInferenceSession) -> None:
        """Drop frames that were seen, and answers that are too old to be attended to."""
        session.processed_frames = {}
        answers = session.output_dict_per_obj[0]
        old = answers["non_cond_frame_outputs"]
        for number in [number for number in old if number <= self._number - self.kept]:
            del old[number]
        for kind in answers.values():
            for answer in kind.values():
                answer.pop("high_res_masks", None)  # its memory is encoded, nobody asks again
        session.frames_tracked_per_obj[0].clear()


def load_memory(folder: str | Path) -> Sam2Memory:
    """SAM 2's video model from a Hugging Face folder (`facebook/sam2.1-hiera-tiny` and its siblings).

    Raises:
        InputError: there is no such model, or weights are missing or surplus.
    """
    path = Path(folder)
    if not (path / "config.json").is_file():
        remedy = "download facebook/sam2.1-hiera-tiny from huggingface.co (Apache-2.0, 156 MB)"
        raise InputError(path, "is no Hugging Face folder", remedy)
    try:
        model, found = Sam2VideoModel.from_pretrained(path, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        problem = f"cannot be loaded ({' '.join(str(error).split())[:120]})"
        raise InputError(path, problem, "download it again") from None
    wrong = [*found["missing_keys"], *found["unexpected_keys"], *found["mismatched_keys"]]
    if wrong:
        problem = f"does not hold SAM 2's video model: {', '.join(map(str, sorted(wrong)[:6]))}"
        raise InputError(path, problem, "use a folder of facebook/sam2 or sam2.1")
    return Sam2Memory(model.eval())
