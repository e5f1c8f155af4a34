"""remarks: what predict and archive say once about all images, not about each."""

from samling.inference.card import Card

HOW = (
    "`samling calibrate RUN --data YOUR.h5` finds out (of a named model: `samling export` it first)"
)


def on_sureness(card: Card, window: str | None = None) -> list[str]:
    """One line where a model cannot say how good its masks are, or not of every kind of prompt.

    Args:
        card: of the model as it was loaded. window: asked for instead of its own.
    """
    if card.calibration is None:
        return [f"{card.name} is not calibrated: nobody knows how good a mask is; {HOW}"]
    if window is not None:
        return ["no expected Dice: the model was calibrated without --window"]
    lacking = [kind for kind in card.asked_kinds if kind not in card.calibration.curves]
    said = [
        f"no expected Dice for {kind}: {card.name}'s calibration leaves it out" for kind in lacking
    ]
    if len(lacking) < len(card.asked_kinds):
        sets = card.calibration.store.replace("+", ", ")
        said.append(
            f"expected Dice holds on the whole for a mixture of pictures like those of {sets} (of one "
            "of these sets alone less surely) and boxes drawn within about 10 %; of others it says "
            "nothing"
        )
    return said


def on_nothing(count: int) -> list[str]:
    """One line on images where nothing was found, which a table of objects would hide."""
    if not count:
        return []
    images = "1 image" if count == 1 else f"{count} images"
    return [f"nothing was found on {images}: see look in results.csv, in the rows of object 0"]
