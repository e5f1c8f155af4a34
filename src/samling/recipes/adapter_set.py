"""Several adapted runs in memory over one base, switched per call."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from samling.adapters.injection import InPlace, use
from samling.errors import InputError
from samling.inference.card import Card
from samling.models.sam import Sam
from samling.models.weights import read_state
from samling.recipes.build import load_base, trained_parts, trainee


@dataclass
class AdapterSet:
    """One base, many adapters. `model` computes with the one that was chosen last.

    Args:
        model: the base, with every adapter in place.
        cards: of the runs, by name.
        injections: the adapters, by name.
        weights: weights of the base that a run trained too (default prompt, presence score,
            perhaps the decoder), by name of the run; None: the base's own.
    """

    model: Sam
    cards: dict[str, Card]
    injections: dict[str, InPlace]
    weights: dict[str | None, dict[str, Tensor]]

    def use(self, name: str | None) -> Sam:
        """Switch to a run by name, or to the base alone with None; bit for bit what it is alone.

        Raises:
            InputError: no such run.
        """
        if name not in self.weights:
            raise InputError(str(name), "is no run of this set", f"use {', '.join(self.cards)}")
        use(self.injections, name)
        own = dict(self.model.named_parameters())
        with torch.no_grad():
            for key, value in (self.weights[None] | self.weights[name]).items():
                own[key].copy_(value)
        return self.model


def load_adapters(runs: dict[str, Path]) -> AdapterSet:
    """Load runs, by the names they shall have, over the base that all of them were trained on.

    Raises:
        InputError: a run is missing or damaged, their bases differ, or a run tuned the encoder
            itself or has layers of its own and so cannot share it.
    """
    cards = {name: Card.read(folder / "adapter.json") for name, folder in runs.items()}
    bases = {card.base_sha256: card.base for card in cards.values()}
    if len(bases) != 1:
        raise InputError("runs", f"were trained on other bases: {bases}", "load runs of one base")
    sha256, reference = next(iter(bases.items()))
    base = load_base(reference)
    if base.sha256 != sha256:
        raise InputError(reference, "is not the base of these runs", "give the one they name")
    made = AdapterSet(base.model.eval(), cards, {}, {None: {}})
    for name, folder in runs.items():
        _add(made, name, folder)
    made.use(None)
    return made


def _add(made: AdapterSet, name: str, folder: Path) -> None:
    section, decoder, encoder, layers = trained_parts(made.cards[name])
    if encoder:
        raise InputError(folder, "tuned the encoder, so it cannot share it", "load it on its own")
    if layers:
        raise InputError(folder, "has layers of its own", "load it on its own")
    before = {key: value.detach().clone() for key, value in made.model.named_parameters()}
    run = trainee(made.model, section, train_decoder=decoder)
    path = folder / "adapter.safetensors"
    state = read_state(path)
    run.load_state(state, str(path))
    made.weights[None] |= {key: before[key] for key in run.extra if key not in made.weights[None]}
    made.weights[name] = {key: state[f"model.{key}"] for key in run.extra}
    for key, value in made.weights[None].items():
        dict(made.model.named_parameters())[key].data.copy_(value)
    if run.injection:
        made.injections[name] = run.injection
        run.injection.activate(False)
