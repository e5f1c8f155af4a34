"""network: a network that `samling train` made, read back with its card."""

from pathlib import Path

from samling.errors import InputError
from samling.inference.card import Card
from samling.models.networks.network import Network
from samling.models.weights import load_strict, read_state, sha256_of_tensors


def load_network(folder: Path) -> tuple[Network, Card]:
    """A network trained by `samling train`.

    Raises:
        InputError: damaged, altered, or of an architecture unknown here.
    """
    card, path = Card.read(folder / "network.json"), folder / "network.safetensors"
    if card.network is None:
        raise InputError(folder / "network.json", "names no network", "train it again")
    made = card.network
    width, boxes = int(made["width"]), bool(made["boxes"])
    model = Network(str(made["kind"]), width=width, boxes=boxes, input_size=card.input_size)
    state = read_state(path)
    if sha256_of_tensors(state) != card.base_sha256:
        raise InputError(path, "was altered since it was made", "train it again")
    load_strict(model, state, str(path))
    return model.eval(), card
