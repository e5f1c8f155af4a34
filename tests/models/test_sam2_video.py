"""SAM 2's video mode: what transformers computes with everything kept, from a memory that stays small."""

import numpy as np
import pytest
import torch

from samling.errors import InputError
from samling.inference.cine import MemoryTracker, follow
from samling.models.sam2_video import Sam2Memory, load_memory
from samling.prompts.prompt import Prompt

SIDE, FRAMES = 64, 24


@pytest.fixture(scope="module")
def model():
    """SAM 2 with the smallest of encoders, random weights and a short memory."""
    from transformers.models.sam2.configuration_sam2 import Sam2HieraDetConfig, Sam2VisionConfig
    from transformers.models.sam2_video.configuration_sam2_video import Sam2VideoConfig
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoModel

    torch.manual_seed(0)
    widths = [8, 16, 32, 64]
    backbone = Sam2HieraDetConfig(
        hidden_size=8, num_attention_heads=1, blocks_per_stage=[1, 1, 1, 1],
        embed_dim_per_stage=widths, num_attention_heads_per_stage=[1, 2, 4, 8],
        global_attention_blocks=[], image_size=[SIDE, SIDE],
    )  # fmt: skip
    vision = Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=widths[::-1],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
    )  # fmt: skip
    config = Sam2VideoConfig(
        vision_config=vision, image_size=SIDE,
        prompt_encoder_config={"image_size": SIDE, "patch_size": 16},
        memory_attention_rope_feat_sizes=[4, 4], memory_attention_num_layers=1,
        num_maskmem=3, max_object_pointers_in_encoder=4,
    )  # fmt: skip
    model = Sam2VideoModel(config).eval()
    for name, parameter in model.named_parameters():  # some are left as the file would fill them
        if (parameter.ndim > 1 and parameter.std() < 1e-6) or "temporal" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.fixture(scope="module")
def loop():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    return [
        ((np.hypot(x - 20 - k, y - 30) < 12) * 0.6 + 0.4 * rng.random((SIDE, SIDE))).astype("f4")
        for k in range(FRAMES)
    ]


def answers(memory, loop):
    coords, labels = np.array([[20, 30]], "f4"), np.array([1])
    return [memory.start(loop[0], coords, labels), *(memory.step(image) for image in loop[1:])]


def test_a_small_memory_gives_what_transformers_gives_when_it_keeps_everything(model, loop):
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    memory = Sam2Memory(model)
    ours = answers(memory, loop)
    video = torch.from_numpy(np.stack(loop)).unsqueeze(1).expand(-1, 3, -1, -1)
    session = Sam2VideoInferenceSession(
        (video - memory._mean) / memory._deviation, SIDE, SIDE, dtype=torch.float32
    )
    points = {
        "point_coords": torch.tensor([[[[20.0, 30]]]]),
        "point_labels": torch.ones(1, 1, 1).int(),
    }
    session.add_point_inputs(session.obj_id_to_idx(1), 0, points)
    session.obj_with_new_inputs = [1]
    with torch.inference_mode():
        theirs = [model(session, frame_idx=index) for index in range(FRAMES)]
    for (mask, present), wanted in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mask, wanted.pred_masks[0, 0].numpy(), atol=1e-4, rtol=1e-4)
        assert present == pytest.approx(torch.sigmoid(wanted.object_score_logits).item(), abs=1e-5)


def test_what_is_kept_does_not_grow(model, loop):
    memory, sizes = Sam2Memory(model), []
    coords, labels = np.array([[20, 30]], "f4"), np.array([1])
    memory.start(loop[0], coords, labels)
    for image in loop[1:]:
        memory.step(image)
        kept = memory._session.output_dict_per_obj[0]["non_cond_frame_outputs"]
        sizes.append(sum(t.numel() for one in kept.values() for t in one.values()))
        assert not memory._session.processed_frames
    assert len(set(sizes[6:])) == 1
    assert len(kept) == memory.kept == 4


def test_a_loop_is_followed_both_ways_at_its_own_size(model, loop):
    frames = [np.pad(image, ((0, 16), (0, 0))) for image in loop[:6]]
    prompt = Prompt(box=np.array([8.0, 18, 34, 44]))
    found = dict(follow(MemoryTracker(Sam2Memory(model)), frames, {3: prompt}))
    assert sorted(found) == list(range(6))
    assert all(one.mask.shape == (80, 64) for one in found.values())
    backwards = MemoryTracker(Sam2Memory(model))
    backwards.prompt(frames[3], prompt)
    for index in (2, 1, 0):
        assert np.array_equal(backwards.step(frames[index]).mask, found[index].mask)


def test_what_cannot_be_done_is_said(model, loop, tmp_path):
    tracker = MemoryTracker(Sam2Memory(model))
    with pytest.raises(InputError, match="no object to follow"):
        tracker.step(loop[0])
    with pytest.raises(InputError, match="boxes and points"):
        tracker.prompt(loop[0], Prompt())
    with pytest.raises(InputError, match="no Hugging Face folder.*download"):
        load_memory(tmp_path)


def test_a_folder_is_loaded_whole_or_refused(model, loop, tmp_path):
    model.save_pretrained(tmp_path)
    wanted, found = (answers(m, loop[:3]) for m in (Sam2Memory(model), load_memory(tmp_path)))
    for one, other in zip(wanted, found, strict=True):
        np.testing.assert_allclose(one[0], other[0], atol=1e-5)
    from safetensors.torch import load_file, save_file

    state = load_file(tmp_path / "model.safetensors")
    del state["memory_encoder.projection.weight"]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"memory_encoder\.projection\.weight"):
        load_memory(tmp_path)
