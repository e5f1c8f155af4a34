"""Published checkpoints, in the authors' own names: every family is recognised, mapped and loaded whole."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import SamConfig, SamModel

from samling.errors import InputError
from samling.models import checkpoints
from samling.models.architectures import ARCHITECTURES, Architecture
from samling.models.checkpoints import load_published, read_published, recognise, resize_positions
from samling.models.contract import PromptTokens
from samling.models.families import FAMILIES, Family, Reference, refer
from samling.models.key_maps import convert, without_unused
from samling.models.sam import Sam
from samling.models.vit import GatedAdapter, VitShape
from samling.models.weights import load_strict
from samling.prompts.prompt import Token

every_family = pytest.mark.parametrize("name", FAMILIES)


@pytest.fixture
def meta(published):
    """Family -> its weights without values."""
    return lambda name: {k: torch.empty(v, device="meta") for k, v in published[name].items()}


@pytest.fixture
def filled(published):
    """Family -> its weights with random values."""

    def fill(name):
        generator, state = torch.Generator().manual_seed(0), {}
        for key, shape in published[name].items():
            value = torch.randn(shape, generator=generator) * 0.05
            state[key] = value.abs() + 0.5 if key.endswith("running_var") else value
            if key.endswith("num_batches_tracked"):
                state[key] = torch.tensor(1)
        return state

    return fill


def reference(name, path="weights.pth"):
    return Reference(Path(path), name, None)


def test_every_family_is_covered(published):
    assert set(published) == set(FAMILIES)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("sam-vit-b", 93.735), ("sam-vit-l", 312.343), ("sam-vit-h", 641.091), ("medsam", 93.735),
        ("sam-med2d", 271.242), ("mobilesam", 10.130), ("efficientsam-ti", 10.22),
    ],
)  # fmt: skip
def test_these_lists_of_names_have_the_published_sizes(name, millions, published):
    """A check of the lists above. MobileSAM counts the classifier of its TinyViT, which is not used."""
    buffers = ("running_mean", "running_var", "num_batches_tracked", "gaussian_matrix")
    count = sum(math.prod(s) for key, s in published[name].items() if not key.endswith(buffers))
    assert count / 1e6 == pytest.approx(millions, abs=0.005 if name.startswith("eff") else 0.0006)


@pytest.mark.parametrize(
    ("name", "difference"),
    [
        ("sam-vit-b", 0), ("sam-med2d", 0),
        ("mobilesam", -(320 * 1000 + 1000 + 640)),  # the classifier and its norm
        # a position per cell instead of 14 x 14 and a class; embeddings of masks and negative points
        ("efficientsam-ti", (4096 - 197) * 192 + 4684 + 256 + 256 - 0),
    ],
)  # fmt: skip
def test_where_our_module_counts_differently_the_difference_is_named(name, difference, published):
    """Ours always has the four tokens of the default prompt, too."""
    buffers = ("running_mean", "running_var", "num_batches_tracked", "gaussian_matrix")
    theirs = sum(math.prod(s) for key, s in published[name].items() if not key.endswith(buffers))
    family = FAMILIES[name]
    with torch.device("meta"):
        model = Sam(family.architecture, family.input_size, automatic=False)
    ours = sum(p.numel() for p in model.parameters()) - 4 * 256
    assert ours - theirs == difference


@every_family
def test_every_authors_key_has_its_place(name, meta):
    family = FAMILIES[name]
    with torch.device("meta"):
        model = Sam(family.architecture, family.input_size, automatic=False)
    state = convert(without_unused(meta(name)))
    resize_positions(state, model)
    own = model.state_dict()
    absent = checkpoints.ABSENT
    if name.startswith("efficientsam"):
        absent += checkpoints.ABSENT_IN_EFFICIENT
    assert set(state) == {key for key in own if not key.startswith(absent)}
    assert {key: own[key].shape for key in state} == {key: v.shape for key, v in state.items()}


@every_family
def test_every_family_is_recognised_by_itself_or_by_the_name_of_its_file(name, meta):
    file = Reference(Path("somewhere") / FAMILIES[name].file, None, None)
    assert recognise(meta(name), file) == name
    assert recognise(meta(name), reference(name)) == name


@pytest.mark.parametrize(("name", "other"), [("sam-vit-b", "medsam"), ("sam2-hiera-t", "medsam2")])
def test_the_same_tensors_with_other_preprocessing_are_not_guessed(name, other, meta):
    for key in (name, other):
        with pytest.raises(InputError, match=f"can be {name} or {other}.*{name}:best.pth"):
            recognise(meta(key), refer("best.pth"))
        assert recognise(meta(key), refer(f"{other}:best.pth")) == other


def test_another_family_than_was_said_and_unknown_ones_are_refused(meta):
    with pytest.raises(InputError, match="is not medsam but mobilesam"):
        recognise(meta("mobilesam"), refer("medsam:x.pth"))
    with pytest.raises(InputError, match=r"no family known here \(keys layer\.weight"):
        recognise({"layer.weight": torch.zeros(1)}, refer("x.pth"))


def test_references():
    assert refer("runs/breast") is None
    assert refer("base") is None
    assert refer("sam_vit_b_01ec64.pth").family is None
    assert refer("x.pt@512") == Reference(refer("x.pt").path, None, 512)
    assert refer("odd:name.pth").path.name == "odd:name.pth"
    assert refer("medsam@256").size == 256
    assert refer("medsam@256").path.name == "medsam_vit_b.pth"


@pytest.mark.parametrize("name", FAMILIES)
def test_without_weights_it_says_where_to_get_them(name, tmp_path, monkeypatch):
    monkeypatch.setenv("SAMLING_CACHE", str(tmp_path))
    family: Family = FAMILIES[name]
    for said in (
        name,
        family.file,
        f"{family.file}@512",
        f"{name}:gone.pth",
        f"gone/{family.file}",
    ):
        with pytest.raises(InputError) as error:
            load_published(refer(said))
        for part in (
            family.file,
            f"{family.megabytes} MB",
            family.licence,
            family.source,
            str(tmp_path),
        ):
            assert part in str(error.value)


def test_a_published_file_name_is_found_in_the_cache_but_not_before_here(tmp_path, monkeypatch):
    (tmp_path / "cache").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("SAMLING_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path / "here")
    cached = tmp_path / "cache" / "mobile_sam.pt"
    cached.write_bytes(b"x")
    assert refer("mobile_sam.pt@512") == Reference(cached, None, 512)
    assert refer("gone/mobile_sam.pt").path == Path("gone/mobile_sam.pt")
    (tmp_path / "here" / "mobile_sam.pt").write_bytes(b"x")
    assert refer("mobile_sam.pt").path == Path("mobile_sam.pt")


def test_a_file_of_no_known_name_and_a_misspelt_family():
    with pytest.raises(InputError, match=r"gone\.pth: is not on .* Remedy: name an existing file"):
        load_published(refer("gone.pth"))
    with pytest.raises(InputError, match="did you mean medsam"):
        load_published(refer("medsan:gone.pth"))


def test_a_download_that_stopped_says_how_much_is_there(tmp_path):
    path = tmp_path / "mobile_sam.pt"
    torch.save({"weight": torch.zeros(100_000)}, path)
    path.write_bytes(path.read_bytes()[:300_000])
    with pytest.raises(InputError, match=r"cut short: it has 0\.3 MB instead of about 41 MB"):
        load_published(refer(str(path)))
    other = path.rename(tmp_path / "mine.pt")
    with pytest.raises(InputError, match=r"cut short: it has 0\.3 MB\. Remedy: download"):
        load_published(refer(str(other)))
    with pytest.raises(InputError, match="instead of about 375 MB"):
        load_published(refer(f"medsam:{other}"))


class Odd(dict):
    pass


def wrapped(state, form, path):
    if form == "safetensors":
        save_file(state, path.with_suffix(".safetensors"))
        return path.with_suffix(".safetensors")
    if form == "model":
        state = {"model": {f"module.{key}": v for key, v in state.items()}, "epoch": 3}
    if form == "optimiser":
        parameter = torch.nn.Parameter(torch.zeros(2))
        adam = torch.optim.Adam([parameter])
        parameter.sum().backward()
        adam.step()
        state = {"model": state, "optimizer": adam}
    torch.save(state, path)
    return path


@pytest.mark.parametrize("form", ["flat", "model", "optimiser", "safetensors"])
def test_a_file_is_loaded_whole_whatever_is_wrapped_around_it(tmp_path, form, filled):
    state = filled("mobilesam")
    path = wrapped(state, form, tmp_path / "mobile_sam.pt")
    model, name = load_published(refer(f"{path}@256"))
    assert name == "mobilesam"
    assert (model.input_size, model.embedding_size) == (256, 16)
    own = model.state_dict()
    pairs = {
        "image_encoder.patch_embed.0.c.weight": "image_encoder.patch_embed.seq.0.c.weight",
        "image_encoder.layers.0.blocks.1.body.conv2.bn.running_var":
            "image_encoder.layers.0.blocks.1.conv2.bn.running_var",
        "prompt_encoder.frequencies":
            "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        "mask_decoder.iou_prediction_head.layers.0.bias":
            "mask_decoder.iou_prediction_head.layers.1.bias",
    }  # fmt: skip
    for ours, theirs in pairs.items():
        assert torch.equal(own[ours], state[theirs])
    for index in range(4):
        row = state[f"prompt_encoder.point_embeddings.{index}.weight"][0]
        assert torch.equal(own["prompt_encoder.kinds.weight"][index], row)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("mask_decoder.iou_token.weight"), "missing mask_decoder.iou_token.weight"),
        (
            lambda s: s.update({"image_encoder.extra": torch.zeros(1)}),
            "surplus image_encoder.extra",
        ),
        (
            lambda s: s.update({"mask_decoder.iou_token.weight": torch.zeros(2, 256)}),
            r"mask_decoder.iou_token.weight \(2, 256\) instead of \(1, 256\)",
        ),
        (
            lambda s: s.pop("prompt_encoder.point_embeddings.2.weight"),
            "kinds.weight.*point_embeddings",
        ),
    ],
)
def test_a_partial_load_is_refused_with_the_keys(tmp_path, change, said, filled):
    state = filled("mobilesam")
    change(state)
    torch.save(state, tmp_path / "mobile_sam.pt")
    with pytest.raises(InputError, match=said):
        load_published(refer(f"{tmp_path}/mobile_sam.pt@64"))


def test_a_side_that_the_encoder_does_not_take_is_refused(tmp_path, filled):
    torch.save(filled("mobilesam"), tmp_path / "m.pt")
    with pytest.raises(InputError, match="multiples of 16 px, not 100"):
        load_published(refer(f"{tmp_path}/m.pt@100"))


@pytest.mark.parametrize("content", [{"epoch": 3}, [1], {"a": torch.zeros(1), "b": "text"}])
def test_what_is_no_table_of_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(InputError, match="not a table of tensors"):
        read_published(refer(str(tmp_path / "x.pth")))


def test_damaged_files_and_other_peoples_objects_are_refused(tmp_path):
    torch.save({"model": Odd(a=torch.zeros(1))}, tmp_path / "odd.pth")
    (tmp_path / "cut.pth").write_bytes(b"PK")
    for name, said in (("odd.pth", r"more than weights \(.*Odd\)"), ("cut.pth", "is cut short")):
        with pytest.raises(InputError, match=said):
            read_published(refer(str(tmp_path / name)))


def test_position_tables_are_resized_as_the_authors_do():
    with torch.device("meta"):
        model = Sam("sam-vit-b", 256, automatic=False)
    ramp = torch.linspace(0, 1, 64).view(1, 1, 64, 1).expand(1, 64, 64, 768).clone()
    key = "image_encoder.layers.2.attn.rel_pos_w"
    state = {
        "image_encoder.pos_embed": ramp,
        key: torch.arange(127.0)[:, None].expand(127, 64).clone(),
    }
    resize_positions(state, model)
    table = state["image_encoder.pos_embed"]
    assert table.shape == (1, 16, 16, 768)
    torch.testing.assert_close(table[0, 3, :, 5], (torch.arange(16) * 4 + 1.5) / 63)
    assert state[key].shape == (31, 64)
    assert state[key][15, 0] == 63  # no offset stays in the middle


@pytest.fixture
def small_vit(monkeypatch):
    """An architecture that is SAM's in small."""
    monkeypatch.setitem(
        ARCHITECTURES, "vit-test", Architecture(VitShape(64, 4, 4), normalised=False)
    )


@torch.no_grad()
def test_sam_in_transformers_names_gives_the_masks_of_transformers(small_vit):
    torch.manual_seed(4)
    config = SamConfig(
        vision_config={
            "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "image_size": 128,
            "global_attn_indexes": [0, 1, 2, 3],
        },
        prompt_encoder_config={"image_size": 128, "image_embedding_size": 8},
        mask_decoder_config={"layer_norm_eps": 1e-5},
    )  # fmt: skip
    theirs = SamModel(config).eval()
    for name, parameter in theirs.named_parameters():
        if "layer_norm" not in name:
            torch.nn.init.normal_(parameter, std=0.08)
    shared = theirs.prompt_encoder.shared_embedding
    theirs.shared_image_embedding.positional_embedding.copy_(shared.positional_embedding)
    ours = Sam("vit-test", 128, automatic=False).eval()
    load_strict(ours, convert(without_unused(theirs.state_dict())), "x", new=checkpoints.ABSENT)
    image = torch.rand(1, 1, 128, 128)
    wanted = theirs(
        pixel_values=image.expand(-1, 3, -1, -1), input_boxes=torch.tensor([[[20.0, 30, 90, 100]]]),
        multimask_output=False,
    )  # fmt: skip
    prompts = PromptTokens(
        torch.tensor([[[[20.0, 30], [90, 100]]]]),
        torch.tensor([[[Token.TOP_LEFT, Token.BOTTOM_RIGHT]]]),
    )
    found = ours.decode(ours.encode(image), prompts)
    assert wanted.pred_masks.std() > 0.01
    torch.testing.assert_close(found.masks, wanted.pred_masks[:, 0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.quality, wanted.iou_scores[:, 0], rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_the_adapter_of_sam_med2d_is_its_formula():
    adapter = GatedAdapter(8)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 6, 4, 8)
    down, up = adapter.channel[0].weight, adapter.channel[2].weight
    weighed = torch.empty_like(x)
    for b in range(2):
        mean = x[b].reshape(-1, 8).mean(0)
        gate = 1 / (1 + torch.exp(-(up @ (down @ mean).clamp(min=0))))
        weighed[b] = x[b] * gate
    # A convolution of stride 2 is every second pixel of one of stride 1; its transpose is its adjoint
    full = torch.nn.functional.conv2d(
        weighed.permute(0, 3, 1, 2), adapter.spatial[0].weight, padding=1
    )
    small = full[:, :, ::2, ::2].clamp(min=0)
    probe = torch.zeros(2, 8, 6, 4, requires_grad=True)
    with torch.enable_grad():
        forward = torch.nn.functional.conv2d(probe, adapter.spatial[2].weight, stride=2, padding=1)
        [wide] = torch.autograd.grad(forward, probe, small)
    summed = x + wide.clamp(min=0).permute(0, 2, 3, 1)
    mean = summed.mean(-1, keepdim=True)
    deviation = (summed.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    expected = (summed - mean) / deviation * adapter.norm.weight + adapter.norm.bias
    torch.testing.assert_close(adapter(x), expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_efficientsam_pads_with_the_position_of_its_own_padding(tmp_path, filled):
    state = filled("efficientsam-ti")
    torch.save({"model": state}, tmp_path / "efficient_sam_vitt.pt")
    model, _ = load_published(refer(f"{tmp_path}/efficient_sam_vitt.pt@64"))
    xy = (torch.tensor([-1.0, -1.0]) + 0.5) / 1024
    phase = (
        2
        * math.pi
        * ((2 * xy - 1) @ state["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"])
    )
    wanted = (
        torch.cat([phase.sin(), phase.cos()]) + state["prompt_encoder.invalid_points.weight"][0]
    )
    sparse = model.prompt_encoder.sparse(torch.zeros(1, 1, 2), torch.tensor([[Token.PADDING]]))
    torch.testing.assert_close(sparse[0, 0], wanted)
    head = model.mask_decoder.iou_prediction_head
    name = "mask_decoder.iou_prediction_head"
    y = x = torch.randn(256)
    for layer in ("layers.0.0", "layers.1.0"):
        y = torch.nn.functional.gelu(
            state[f"{name}.{layer}.weight"] @ y + state[f"{name}.{layer}.bias"]
        )
    torch.testing.assert_close(head(x), state[f"{name}.fc.weight"] @ y + state[f"{name}.fc.bias"])
