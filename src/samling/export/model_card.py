"""The model card: what a person must know before trusting a bundle."""

from samling.export.parity import Parity
from samling.inference.card import Card

_PROMPTS = {
    "box": "a box around each object",
    "points": "points inside (and outside) an object",
    "mask": "the logits of an earlier prediction",
    "automatic": "none: the model looks for objects itself and may answer that there are none",
}


def model_card(card: Card, parity: Parity, precision: str = "32-bit floats") -> str:
    """Markdown for the bundle's README; `precision` says how its numbers are stored, at what cost."""
    prompts = "\n".join(f"- {kind}: {_PROMPTS[kind]}" for kind in card.prompts)
    trained = ", ".join(card.trained_on) or "not stated"
    return f"""# {card.name}

A model that outlines {" / ".join(card.classes)} in grey medical images, exported by samling.

**Not a medical device.** For research only. It has no regulatory clearance, and it must not be the
basis of a diagnosis or a treatment. A person with the right training checks every outline.

## Intended use

Images of the kind it was trained on (training data: {trained}). Prompts it was trained for:

{prompts}

## Limits

- On other organs, scanners, age groups or modalities nothing is known about its accuracy.
- The score of an object is the model's own estimate, not a probability of disease.
- It sees one image of {card.input_size} x {card.input_size} pixels: detail finer than that is lost.
- Areas and diameters in mm are as right as the scale in the file.

## Provenance

| | |
| --- | --- |
| base | {card.base} |
| SHA-256 of the base's weights | `{card.base_sha256}` |
| adapter | {(card.adapter or {}).get("kind", "none")} |
| training data | {trained} |
| hash of the split | {f"`{card.split_hash}`" if card.split_hash else "not stated"} |
| licence | {card.licence} |
| export | {parity} |
| precision | {precision} |

## Use

```
pip install samling
samling predict THIS_FOLDER image.png -o out
```

`card.json` says how to feed the graphs without samling. `encoder.onnx`: `image` (1, 1, S, S) grey
in [0, 1] (longest side to S, min-max, zero padding at the right and the bottom) ->
`image_embeddings`, and `presence` (logit) if the model has an automatic mode. `decoder.onnx` has
the inputs of SAM's ONNX decoder with one row per object -> `low_res_masks` (logits over the whole
square) and `iou_predictions`.
"""
