"""Automatic mode: no prompt was given, every connected region is an object."""

import cv2
import numpy as np
from numpy.typing import NDArray

from samling.inference.card import Card
from samling.inference.regions import objects_at_most
from samling.inference.segmenter import EncodedImage, Object


def find_objects(
    low: NDArray[np.float32],
    quality: float,
    encoded: EncodedImage,
    card: Card,
    class_index: int = 0,
) -> list[Object]:
    """Decoded default prompt of an image that holds something -> its objects, largest first.

    An object is an 8-connected region of pixels above the card's mask threshold that covers at
    least `minimum_area` of the image. Its score is its mean foreground probability times the
    image's presence probability (1 for a model that has none).

    Args:
        low: (4h, 4w) logits of the default prompt over the model's square.
        quality: predicted IoU of that mask.
        class_index: which of the card's classes was asked for.
    """
    presence = encoded.presence_of(class_index)
    logits = encoded.frame.logits_to_original(low[None])[0]
    inside = (logits > card.mask_threshold).astype(np.uint8)
    _, regions, stats, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
    smallest = max(1.0, card.minimum_area * inside.size)
    areas = stats[:, cv2.CC_STAT_AREA]
    kept = [k for k in np.argsort(-areas, kind="stable") if k and areas[k] >= smallest]
    objects: list[Object] = []
    for k in kept[: objects_at_most(*inside.shape)]:
        x0, y0, width, height = (int(value) for value in stats[k, :4])
        mask = regions == k
        probability = float(np.mean(1.0 / (1.0 + np.exp(-logits[mask].clip(-60, 60)))))
        objects.append(
            Object(
                mask=mask,
                score=probability * (1.0 if presence is None else presence),
                quality=quality,
                presence=presence,
                box=(x0, y0, x0 + width, y0 + height),
                class_name=card.classes[class_index],
            )
        )
    return objects
