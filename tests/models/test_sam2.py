"""SAM 2 as a segmenter: equal to transformers' own model, any size of the grid, exact sizes."""

import pytest
import torch
from transformers import Sam2Config, Sam2Model, Sam2VideoConfig, Sam2VideoModel

from samling.adapters.ch_adapter import inject_ch
from samling.adapters.injection import select_sites
from samling.models.contract import PromptTokens
from samling.models.hiera import HIERAS, Hiera
from samling.models.key_maps import convert, without_unused
from samling.models.sam import IMAGENET_DEVIATION, IMAGENET_MEAN, Sam
from samling.models.weights import load_strict
from samling.prompts.prompt import Token

SIDE = 128


def weights_of(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def theirs():
    """Transformers' SAM 2 with the mini encoder and weights that matter."""
    torch.manual_seed(3)
    grid = SIDE // 4
    vision = Hiera(HIERAS["hiera-mini"]).config
    vision.backbone_feature_sizes = [[grid, grid], [grid // 2] * 2, [grid // 4] * 2]
    config = Sam2Config(
        vision_config=vision,
        prompt_encoder_config={"image_size": SIDE},
        mask_decoder_config={"dynamic_multimask_stability_thresh": 0.98},
    )
    model = Sam2Model(config).eval()
    for name, parameter in model.named_parameters():
        if "layer_norm" not in name:
            torch.nn.init.normal_(parameter, std=0.08 if parameter.ndim > 1 else 0.02)
    # One table in every published checkpoint
    shared = model.prompt_encoder.shared_embedding.positional_embedding
    model.shared_image_embedding.positional_embedding.copy_(shared)
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def ours(theirs):
    model = Sam("sam2-hiera-mini", SIDE, automatic=False)
    state = convert(without_unused(theirs.state_dict()))
    load_strict(model, state, "x", new=("prompt_encoder.automatic.",))
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def image():
    return torch.rand((1, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(1))


def pixels(image):
    mean, deviation = (
        torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_DEVIATION)
    )
    return (image.expand(-1, 3, -1, -1) - mean) / deviation


def tokens(coords, labels, masks=None):
    return PromptTokens(torch.tensor([[coords]]).float(), torch.tensor([[labels]]), masks)


BOX, POINTS = [20.0, 30.0, 90.0, 100.0], [[40.0, 50.0], [90.0, 20.0]]
CORNERS = [Token.TOP_LEFT, Token.BOTTOM_RIGHT, Token.PADDING]
PROMPTS = {
    "box": (
        {"input_boxes": torch.tensor([[BOX]])},
        tokens([[20, 30], [90, 100], [0, 0]], CORNERS),
    ),
    "points": (
        {"input_points": torch.tensor([[POINTS]]), "input_labels": torch.tensor([[[1, 0]]])},
        tokens([*POINTS, [0, 0]], [1, 0, Token.PADDING]),
    ),
    "both": (
        {
            "input_boxes": torch.tensor([[BOX]]),
            "input_points": torch.tensor([[POINTS]]),
            "input_labels": torch.tensor([[[1, 0]]]),
        },
        tokens([*POINTS, [20, 30], [90, 100], [0, 0]], [1, 0, *CORNERS]),
    ),
}


@torch.no_grad()
@pytest.mark.parametrize("kind", PROMPTS)
@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("multimask", [False, True])
def test_masks_and_quality_are_those_of_transformers(
    ours, theirs, image, kind, with_mask, multimask
):
    theirs_in, ours_in = PROMPTS[kind]
    mask = torch.randn((1, 1, SIDE // 4, SIDE // 4), generator=torch.Generator().manual_seed(2))
    extra = {"input_masks": mask} if with_mask else {}
    wanted = theirs(pixel_values=pixels(image), multimask_output=multimask, **theirs_in, **extra)
    ours_in = ours_in._replace(masks=mask if with_mask else None)
    found = ours.decode(ours.encode(image), ours_in, multimask=multimask)
    assert wanted.pred_masks.std() > 0.01  # not an empty comparison
    torch.testing.assert_close(found.masks, wanted.pred_masks[:, 0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.quality, wanted.iou_scores[:, 0], rtol=1e-3, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("scale", [0.0, 1.0, 1000.0])
def test_an_unstable_mask_gives_way_to_the_best_alternative(ours, scale):
    decoder = ours.mask_decoder
    logits = torch.randn(2, 4, 8, 8)
    logits[:, 0] *= scale
    quality = torch.tensor([[0.1, 0.5, 0.9, 0.3], [0.1, 0.8, 0.2, 0.3]])
    mask, score = decoder._answer(logits, quality)
    for row, best in enumerate((2, 1)):
        plane = logits[row, 0]
        outer = (plane > -0.05).sum()
        stable = bool((plane > 0.05).sum() / outer >= 0.98)
        index = 0 if stable else best
        assert torch.equal(mask[row, 0], logits[row, index])
        assert score[row, 0] == quality[row, index]


def test_what_learns_is_the_single_mask(ours, image):
    embedding = ours.encode(image)
    embedding = embedding._replace(image=embedding.image.clone().requires_grad_())
    ours.decode(embedding, PROMPTS["box"][1]).masks.sum().backward()
    alone = ours.mask_decoder.masks(
        embedding.image, ours.prompt_encoder.grid(), torch.zeros(1, 1, 256), embedding.image,
        embedding.skips,
    )[0]  # fmt: skip
    assert alone.shape[1] == 1
    assert embedding.image.grad.any()


@torch.no_grad()
@pytest.mark.parametrize("side", [64, 96, 160])
def test_any_side_that_the_grid_allows(side):
    model = Sam("sam2-hiera-mini", side).eval()
    embedding = model.encode(torch.rand(2, 1, side, side))
    cells = side // 16
    assert embedding.image.shape == (2, 256, cells, cells)
    assert [skip.shape for skip in embedding.skips] == [
        (2, 32, 4 * cells, 4 * cells),
        (2, 64, 2 * cells, 2 * cells),
    ]
    both = tokens([[10, 10], [50, 60], [0, 0]], CORNERS)
    both = PromptTokens(both.coords.expand(2, 3, 3, 2), both.labels.expand(2, 3, 3))
    assert model.decode(embedding, both).masks.shape == (2, 3, 4 * cells, 4 * cells)


def test_a_side_that_it_does_not_allow_is_refused():
    with pytest.raises(ValueError, match="multiples of 32 px, not 100"):
        Sam("sam2-hiera-mini", 100)


def test_sites_have_the_stated_width(image):
    model, seen = Sam("sam2-hiera-mini", SIDE), {}
    for sites in model.sites.values():
        for site in sites:
            model.get_submodule(site.path).register_forward_hook(
                lambda _m, inputs, out, site=site: seen.update({site: (inputs[0].shape, out.shape)})
            )
    model.encode(image)
    assert {kind: len(sites) for kind, sites in model.sites.items()} == {"block": 9, "mlp": 12}
    for site, (before, after) in seen.items():
        assert before == after
        assert after[-1] == site.width
    assert len(seen) == 21


@pytest.mark.parametrize("form", ["magnitude", "concatenation"])
def test_ch_adapters_on_hiera_start_as_nothing_and_learn_with_their_stem(image, form):
    torch.manual_seed(0)
    model = Sam("sam2-hiera-mini", SIDE).eval().requires_grad_(False)
    before = model.encode(image).image
    first, sites = model.sites["block"][0], select_sites(model.sites, ("mlp",))
    injection = inject_ch(model, first, sites, reduction=4, form=form, placement="parallel")
    assert torch.equal(model.encode(image).image, before)
    optimizer = torch.optim.Adam(injection.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        model.encode(image).image.square().mean().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.any() for p in injection.parameters())
    injection.eject()
    torch.testing.assert_close(model.encode(image).image, before)


def test_sizes_of_hiera_large_are_the_papers():
    """224.4301 M whole; tuned 20.7988 M of 233.5297 M, 8.906 %, as the released code counts them."""
    with torch.device("meta"):
        model = Sam("sam2-hiera-l", 1024, automatic=False)
        video = Sam2VideoModel(
            Sam2VideoConfig(
                vision_config=Hiera(HIERAS["hiera-l"]).config,
                enable_occlusion_spatial_embedding=False,
                enable_temporal_pos_encoding_for_object_pointers=False,
            )
        )
    whole = weights_of(video)
    assert whole == 224_430_130
    # Ours has no memory of earlier frames, but the tokens of the default prompt
    image = whole - sum(
        weights_of(getattr(video, part))
        for part in ("memory_attention", "memory_encoder", "mask_downsample", "object_pointer_proj")
    )
    image -= 256 + 7 * 64 + 256  # positions of memories, and the pointer to no object
    assert weights_of(model) - 4 * 256 == image == 216_924_865
    encoder = weights_of(model.image_encoder) - 256  # `no_memory` is none of theirs
    assert encoder == 212_703_280
    sites = select_sites(model.sites, ("mlp",))
    injection = inject_ch(
        model, model.sites["block"][0], sites, reduction=4, form="magnitude", placement="parallel"
    )
    adapters = sum(p.numel() for p in injection.parameters())
    constants = len(sites) * 576
    assert (adapters, constants) == (9_071_932, 27_648)
    total = whole + adapters + constants
    assert total == 233_529_710
    tuned = whole - encoder + adapters
    assert tuned == 20_798_782
    assert round(100 * tuned / total, 3) == 8.906
    learning = adapters + weights_of(video.prompt_encoder) + weights_of(video.mask_decoder)
    assert learning == 13_293_261  # what images give a gradient to


@pytest.mark.parametrize(
    ("size", "count"),
    [("t", 38_945_986), ("s", 46_043_842), ("b+", 80_833_666)],
)
def test_sizes_of_the_other_encoders_are_those_of_sam2(size, count):
    """Authors: 38.9 M, 46 M and 80.8 M."""
    with torch.device("meta"):
        model = Sam(f"sam2-hiera-{size}", 1024, automatic=False)
    memory = 224_430_130 - 216_924_865
    assert weights_of(model) - 4 * 256 + memory == count


def test_the_students_encoder_has_the_papers_size():
    """0.8645 M: Hiera, adapters, stem, and 576 Sobel constants in each of 12 blocks."""
    with torch.device("meta"):
        model = Sam("sam2-hiera-mini", 1024, automatic=False)
    encoder = weights_of(model.image_encoder) - 256
    sites = select_sites(model.sites, ("mlp",))
    injection = inject_ch(
        model, model.sites["block"][0], sites, reduction=4, form="magnitude", placement="parallel"
    )
    adapters = sum(p.numel() for p in injection.parameters())
    assert (encoder, adapters) == (820_256, 37_352)
    assert encoder + adapters + 12 * 576 == 864_520
    assert (
        round(1 - (encoder + adapters + 12 * 576 + 224_430_130 - 212_703_280) / 224_430_130, 4)
        == 0.9439
    )
