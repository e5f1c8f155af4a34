import json

from samling.export.model_card import model_card
from samling.export.parity import Parity
from samling.inference.expectation import Calibration, Curve

CURVE = Curve(quality=(0.5,), dice=(0.75,), margin=0.2, objects=40)
PARITY = Parity(3, 1.0, 0.0, 0.0)


def calibrated(card, **curves):
    found = Calibration(level=0.9, temperature=1.2, store="a+b", split_hash="c+d", curves=curves)
    return card.model_copy(update={"calibration": found})


def test_it_says_for_what_it_is_calibrated_and_how_often_finding_nothing_was_wrong(tiny_card):
    assert "calibrated | not when it was exported" in model_card(tiny_card, PARITY)
    text = model_card(calibrated(tiny_card, box=CURVE, nothing=CURVE), PARITY)
    assert "on a, b, intervals of 90%, for box;" in text
    assert "of 40 images where automatic mode found nothing 10 held a lesion" in text
    assert "for no kind of prompt" in model_card(calibrated(tiny_card), PARITY)


def test_older_samling_reads_a_calibration(tiny_card):
    """It refuses fields that it does not know: what is new is a curve among the others."""
    content = json.loads(calibrated(tiny_card, box=CURVE, nothing=CURVE).model_dump_json())
    known = {"level", "temperature", "store", "split_hash", "curves"}
    assert set(content["calibration"]) == known
    assert set(content["calibration"]["curves"]["nothing"]) == {
        "quality", "dice", "margin", "objects",
    }  # fmt: skip
