"""LoRA (Hu et al. 2021, arXiv 2106.09685) through peft: low-rank updates of linear layers.

peft replaces a linear layer by one that holds it (`base_layer`) and the two factors of its update,
`x W + x A B`, B zero at initialisation. Here it is one more injection: saved, switched and ejected as the
other adapters are, on any encoder, because it asks for linear layers only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from samling.adapters.injection import Adapted, SiteLike, get_module, load_into, set_module
from samling.errors import InputError


@dataclass
class LoraInjection:
    """Low-rank updates that are in place. Holds the way back; the interface is that of `Injection`.

    Args:
        model: they are in.
        name: of this set of updates; a layer may hold several.
        layers: path of the linear layer in the bare model -> peft's layer.
    """

    model: nn.Module
    name: str
    layers: dict[str, Any]

    def parameters(self) -> list[nn.Parameter]:
        """The factors alone."""
        return [
            factor.weight
            for layer in self.layers.values()
            for factor in (layer.lora_A[self.name], layer.lora_B[self.name])
        ]

    def activate(self, active: bool = True) -> None:
        """Switch the updates on or off; off, the model computes exactly what the base computes."""
        for layer in self.layers.values():
            others = [name for name in layer.active_adapters if name != self.name]
            layer.set_adapter([*others, self.name] if active else others)

    def eject(self) -> None:
        """Put the linear layers back: outputs and state-dict keys as before, bit for bit."""
        for path, layer in self.layers.items():
            layer.delete_adapter(self.name)
            if not layer.lora_A:
                set_module(self.model, path, layer.base_layer)
        self.layers = {}

    def current_name(self, name: str) -> str:
        """Where a weight of the bare model is now."""
        owner, _, last = name.rpartition(".")
        return f"{owner}.base_layer.{last}" if owner in self.layers else name

    def state_dict(self) -> dict[str, Tensor]:
        """`<layer>.down` (rank, in) and `<layer>.up` (out, rank) of every layer."""
        pairs = (("down", "lora_A"), ("up", "lora_B"))
        return {
            f"{path}.{ours}": getattr(layer, theirs)[self.name].weight.detach()
            for path, layer in self.layers.items()
            for ours, theirs in pairs
        }

    def load_state_dict(self, state: dict[str, Tensor], where: str = "adapter") -> None:
        """Load the factors strictly.

        Raises:
            InputError: a key is missing or surplus or a shape differs, all named.
        """
        load_into(self.state_dict(), state, where)


def inject_lora(model: nn.Module, sites: Sequence[SiteLike], *, rank: int) -> LoraInjection:
    """A low-rank update for every linear layer inside the sites; the output is unchanged at first.

    The update counts once (alpha = rank). Other weights keep their `requires_grad`.

    Raises:
        InputError: there is no linear layer at the sites.
    """
    from peft import LoraConfig, inject_adapter_in_model

    paths = sorted({path for site in sites for path in _linear_layers(model, site.path)})
    if not paths:
        raise InputError("adapter.sites", "hold no linear layer", "use block and mlp")
    name = f"lora{sum(1 for key in vars(model).get('peft_config', {}))}"
    found = {id(module): current for current, module in model.named_modules()}
    targets = [found[id(get_module(model, path))] for path in paths]
    learning = {p: p.requires_grad for p in model.parameters()}
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=targets)
    inject_adapter_in_model(config, model, name)
    for parameter, learns in learning.items():
        parameter.requires_grad_(learns)
    return LoraInjection(model, name, {path: get_module(model, path) for path in paths})


def merge_lora(model: nn.Module) -> None:
    """Add every active update to its layer's weights, for good, and leave plain linear layers."""
    from peft.tuners.lora import LoraLayer

    for path, layer in list(model.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            owner, _, last = path.rpartition(".")
            setattr(model.get_submodule(owner), last, layer.base_layer)


def _linear_layers(model: nn.Module, path: str) -> Iterator[str]:
    """Paths, in the bare model, of linear layers in the module at `path`, whatever adapts them."""
    from peft.tuners.lora import LoraLayer

    module = get_module(model, path)
    while isinstance(module, Adapted):
        module = module.target
    for name, inner in module.named_children():
        inside = inner
        while isinstance(inside, Adapted):
            inside = inside.target
        if isinstance(inside, nn.Linear | LoraLayer):
            yield f"{path}.{name}"
        else:
            yield from _linear_layers(model, f"{path}.{name}")
