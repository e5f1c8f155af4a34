import numpy as np
import pytest

from samling.inference.segmenter import Segmenter
from samling.prompts.prompt import Prompt

torch = pytest.importorskip("torch", reason="needs samling[train]")
pytest.importorskip("transformers", reason="needs samling[train]")


@pytest.fixture(scope="module")
def model():
    from samling.models.sam import Sam

    torch.manual_seed(0)
    return Sam("light")


def test_it_predicts_without_gradients_in_evaluation_mode(model, make_card):
    from samling.inference.torch_backend import TorchBackend

    model.train()
    card = make_card(input_size=256, embedding_size=model.embedding_size)
    segmenter = Segmenter(TorchBackend(model), card)
    assert not model.training
    image = np.random.default_rng(0).integers(0, 256, (60, 90), dtype=np.uint8)
    model.train()
    encoded = segmenter.encode(image)
    assert not model.training
    prompts = [
        Prompt(box=np.array([5.0, 5, 40, 40])),
        Prompt(points=np.array([[30.0, 30.0]]), point_labels=np.array([1])),
        Prompt(mask=np.zeros((64, 64), dtype=np.float32)),
        Prompt(),
    ]
    logits, quality = segmenter.decode(encoded, prompts)
    assert logits.shape == (4, 60, 90)
    assert logits.dtype == np.float32
    assert quality.shape == (4,)
    assert 0 < encoded.presence < 1
    assert all(parameter.grad is None for parameter in model.parameters())


def test_it_gives_what_the_model_gives(model):
    from samling.inference.torch_backend import TorchBackend
    from samling.models.contract import PromptTokens

    backend = TorchBackend(model)
    plane = np.random.default_rng(0).random((256, 256), dtype=np.float32)
    coords = np.array([[[20, 30], [90, 99]], [[1, 1], [200, 240]]], dtype=np.float32)
    labels = np.array([[2, 3], [2, 3]])
    low, quality = backend.decode(backend.encode(plane), coords, labels)
    with torch.no_grad():
        embedding = model.encode(torch.from_numpy(plane)[None, None])
        tokens = PromptTokens(torch.from_numpy(coords)[None], torch.from_numpy(labels)[None])
        expected = model.decode(embedding, tokens)
    assert np.array_equal(low, expected.masks[0].numpy())
    assert np.array_equal(quality, expected.quality[0].numpy())
