import numpy as np
import pytest

from samling.errors import InputError
from samling.export.parity import compare
from samling.inference.backend import Encoding
from samling.inference.segmenter import Segmenter


class Striped:
    """Rows up to `edge` are inside, whatever is asked."""

    def __init__(self, edge, presence=1.0, noise=0.0):
        self.edge, self.presence, self.noise = edge, presence, noise

    def encode(self, plane):
        return Encoding(plane[None, None], self.presence)

    def decode(self, encoding, coords, labels, masks=None):
        low = np.full((len(coords), 64, 64), -5.0, dtype=np.float32)
        low[:, : self.edge] = 5 + self.noise
        return low, np.zeros(len(coords), dtype=np.float32)


def pair(tiny_card, **changes):
    return Segmenter(Striped(30), tiny_card), Segmenter(
        Striped(**({"edge": 30} | changes)), tiny_card
    )


def test_equal_models_agree(tiny_card):
    parity = compare(*pair(tiny_card, noise=0.001))
    parity.require("model")
    assert parity.least_iou == 1.0
    assert parity.logit_difference == pytest.approx(0.001, rel=1e-2)
    assert "lowest IoU 1.0000" in str(parity)


@pytest.mark.parametrize(
    "change", [{"edge": 31}, {"edge": 0}, {"presence": 1.1}, {"noise": float("nan")}]
)
def test_any_difference_that_a_user_would_see_is_refused(tiny_card, change):
    with pytest.raises(InputError, match="is not the same"):
        compare(*pair(tiny_card, **change)).require("model")


def test_two_empty_masks_agree_and_own_images_may_be_given(tiny_card, image):
    both = Segmenter(Striped(0), tiny_card), Segmenter(Striped(0), tiny_card)
    parity = compare(*both, [image])
    assert parity.least_iou == 1.0
    assert parity.masks == 10


def test_only_the_kinds_of_the_card_are_asked(tiny_card, image):
    only_box = tiny_card.model_copy(update={"prompts": ("box",)})
    parity = compare(Segmenter(Striped(9), only_box), Segmenter(Striped(9), only_box), [image])
    assert parity.masks == 4
