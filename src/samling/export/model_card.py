"""The model card: what a person must know before trusting a bundle."""

from collections.abc import Sequence

from samling.export.parity import Parity
from samling.inference.card import Card
from samling.inference.expectation import NOTHING

_PROMPTS = {
    "box": "a box around each object",
    "points": "points inside (and outside) an object",
    "mask": "the logits of an earlier prediction",
    "automatic": "none: the model looks for objects itself and may answer that there are none",
}


def model_card(
    card: Card, parity: Parity, precision: str = "32-bit floats", limits: Sequence[str] = ()
) -> str:
    """Markdown for the bundle's README.

    Args:
        precision: how its numbers are stored, and at what cost.
        limits: sentences of this model's own, after those that hold for every model.
    """
    more = "".join(f"\n- {sentence}" for sentence in limits)
    prompts = "\n".join(f"- {kind}: {_PROMPTS[kind]}" for kind in card.prompts)
    return f"""# {card.name}

A model that outlines {" / ".join(card.classes)} in grey medical images, exported by samling.

**Not a medical device.** For research only. It has no regulatory clearance, and it must not be the
basis of a diagnosis or a treatment. A person with the right training checks every outline.

## Intended use

Images of the kind it was trained on (training data: {_trained(card)}). Prompts it was trained for:

{prompts}

## Limits

- On other organs, scanners, age groups or modalities nothing is known about its accuracy.
- The score of an object is the model's own estimate, not a probability of disease.
- It sees one image of {card.input_size} x {card.input_size} pixels: detail finer than that is lost.
- Areas and diameters in mm are as right as the scale in the file.{more}

## Provenance

{_provenance(card, parity, precision)}

## Use

```
pip install .          # once, in the folder of samling's source
samling predict THIS_FOLDER image.png -o out
```

`card.json` says how to feed the graphs without samling. `encoder.onnx`: `image` (1, 1, S, S) grey
in [0, 1] (longest side to S, min-max, zero padding at the right and the bottom) ->
`image_embeddings`, and `presence` (logit) if the model has an automatic mode. `decoder.onnx` has
the inputs of SAM's ONNX decoder with one row per object -> `low_res_masks` (logits over the whole
square) and `iou_predictions`.
"""


def _calibrated(card: Card) -> str:
    """On what, for which kinds of prompt, and how often finding nothing was wrong."""
    found = card.calibration
    if found is None:
        return "not when it was exported; `card.json` has it if `samling calibrate` was run on it since"
    kinds = (
        ", ".join(kind for kind in card.asked_kinds if kind in found.curves) or "no kind of prompt"
    )
    where = found.store.replace("+", ", ")
    text = f"at export on {where}, intervals of {found.level:.0%}, for {kinds}; `card.json` has what counts"
    if (nothing := found.curves.get(NOTHING)) is None:
        return text
    wrong = round(nothing.objects * (1 - nothing.dice[0]))
    return f"{text}; of {nothing.objects} images where automatic mode found nothing {wrong} held a lesion"


def _provenance(card: Card, parity: Parity, precision: str) -> str:
    return f"""| | |
| --- | --- |
| base | {card.base} |
| SHA-256 of the base's weights | `{card.base_sha256}` |
| adapter | {(card.adapter or {}).get("kind", "none")} |
| training data | {_trained(card)} |
| calibrated | {_calibrated(card)} |
| hash of the split | {f"`{card.split_hash}`" if card.split_hash else "not stated"} |
| licence | {card.licence} |
| export | {parity} |
| precision | {precision} |"""


def _trained(card: Card) -> str:
    return ", ".join(card.trained_on) or "not stated"
