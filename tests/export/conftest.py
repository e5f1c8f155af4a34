"""The smallest segmenter that uses every prompt: a few convolutions, exported in seconds."""

import numpy as np
import pytest

from samling.inference.card import Card


@pytest.fixture(scope="session")
def tiny_card() -> Card:
    return Card(
        name="tiny",
        base="tiny",
        base_sha256="0" * 64,
        input_size=64,
        embedding_size=16,
        prompts=("box", "points", "mask", "automatic"),
        licence="Apache-2.0",
    )


@pytest.fixture(scope="session")
def tiny_model():
    torch = pytest.importorskip("torch", reason="needs samling[train]")
    pytest.importorskip("onnxscript", reason="needs samling[export]")
    from samling.models.contract import Embedding, MaskLogits

    class Tiny(torch.nn.Module):
        input_size, embedding_size = 64, 16

        def __init__(self):
            super().__init__()
            self.features = torch.nn.Conv2d(1, 8, 4, stride=4)
            self.kinds = torch.nn.Embedding(9, 8)
            self.presence = torch.nn.Linear(8, 1)
            self.up = torch.nn.ConvTranspose2d(8, 1, 4, stride=4)

        @property
        def sites(self):
            return {}

        @property
        def module(self):
            return self

        def encode(self, images):
            image = self.features(images)
            return Embedding(image, self.presence(image.mean(dim=(2, 3))).squeeze(1))

        def decode(self, embedding, prompts):
            batch, objects = prompts.labels.shape[:2]
            where = prompts.coords.mean(dim=2) / 64  # (B, P, 2)
            prompt = self.kinds(prompts.labels + 1).mean(dim=2) * where.sum(-1, keepdim=True)
            joined = embedding.image[:, None] * prompt[..., None, None]  # (B, P, C, h, w)
            low = self.up(joined.flatten(0, 1)).reshape(batch, objects, 64, 64)
            if prompts.masks is not None:
                given = torch.ones(1) if prompts.mask_given is None else prompts.mask_given
                low = low + prompts.masks * given.reshape(1, -1, 1, 1)
            return MaskLogits(low, prompt.mean(dim=-1))

    torch.manual_seed(0)
    model = Tiny()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return model.eval()


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (48, 64), dtype=np.uint8)
