"""Inject adapters at named sites of any model, eject them bit for bit, switch between several."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import torch
from safetensors.torch import save
from torch import Tensor, nn

from samling.atomic import atomic_path
from samling.errors import InputError

Placement = Literal["parallel", "serial", "before"]


class SiteLike(Protocol):
    """Where an adapter may go; `samling.models.contract.Site` is one."""

    @property
    def path(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def stage(self) -> int: ...
    @property
    def channels_first(self) -> bool: ...


S = TypeVar("S", bound=SiteLike)


class Adapted(nn.Module):
    """A module with an adapter beside it: `f(x) + A(x)` in parallel, `f(x) + A(f(x))` in series.

    `before`: A only looks at x, for other adapters to use what it saw; the result is f(x).
    """

    def __init__(
        self, target: nn.Module, adapter: nn.Module, placement: Placement, *, channels_first: bool
    ) -> None:
        super().__init__()
        self.target, self.adapter = target, adapter
        self.placement, self.channels_first = placement, channels_first
        self.active = True

    def forward(self, x: Tensor) -> Tensor:
        if self.placement == "before" and self.active:
            self.adapter(x if self.channels_first else x.permute(0, 3, 1, 2))
        y = self.target(x)
        if self.placement == "before" or not self.active:
            return y
        source = x if self.placement == "parallel" else y
        if not self.channels_first:
            return y + self.adapter(source)
        # B, C, H, W -> B, H, W, C and back
        return y + self.adapter(source.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def select_sites(sites: dict[str, list[S]], wanted: Sequence[str]) -> list[S]:
    """Sites named `kind` (all stages) or `kind:stage`, e.g. `("attention", "mlp", "block:0")`.

    Raises:
        InputError: the model has no such kind or stage (both choices are listed); a site twice.
    """
    chosen: list[S] = []
    for name in wanted:
        kind, _, stage = name.partition(":")
        found = [site for site in sites.get(kind, []) if not stage or str(site.stage) == stage]
        if not found:
            stages = {key: sorted({s.stage for s in value}) for key, value in sites.items()}
            raise InputError(
                f"adapter.sites {name}", "the model has no such site", f"use one of {stages}"
            )
        if any(site in chosen for site in found):
            raise InputError(f"adapter.sites {name}", "names a site twice", "leave one of them out")
        chosen += found
    return chosen


@dataclass
class Injection:
    """Adapters that are in place. Holds the way back."""

    model: nn.Module
    wrappers: dict[str, Adapted]

    def parameters(self) -> list[nn.Parameter]:
        """Weights of the adapters alone."""
        return [p for wrapper in self.wrappers.values() for p in wrapper.adapter.parameters()]

    def activate(self, active: bool = True) -> None:
        """Switch the adapters on or off; off, the model computes exactly what the base computes."""
        for wrapper in self.wrappers.values():
            wrapper.active = active

    def eject(self) -> None:
        """Put the original modules back: outputs and state-dict keys as before, bit for bit.

        Raises:
            ValueError: a later injection still sits on top of this one; nothing was changed.
        """
        for path, wrapper in self.wrappers.items():
            if get_module(self.model, path) is not wrapper:
                raise ValueError(f"{path} was adapted again: eject the later injection first")
        for path, wrapper in reversed(self.wrappers.items()):
            set_module(self.model, path, wrapper.target)
        self.wrappers = {}

    def state_dict(self) -> dict[str, Tensor]:
        """Adapter weights, named by site."""
        return {
            f"{path}.{name}": value.detach()
            for path, wrapper in self.wrappers.items()
            for name, value in wrapper.adapter.state_dict().items()
        }

    def load_state_dict(self, state: dict[str, Tensor], where: str = "adapter") -> None:
        """Load adapter weights strictly.

        Raises:
            InputError: a key is missing or surplus or a shape differs, all named.
        """
        load_into(self.state_dict(), state, where)

    def current_name(self, name: str) -> str:
        """Where a weight of the bare model is now: wrapped modules move to `<path>.target`."""
        current = name
        for path in sorted(self.wrappers, key=len, reverse=True):
            if name.startswith(f"{path}."):
                current = f"{current[: len(path)]}.target{current[len(path) :]}"
        return current


def load_into(own: dict[str, Tensor], state: dict[str, Tensor], where: str) -> None:
    """Copy `state` into the tensors of `own`, all or none.

    Raises:
        InputError: a key is missing or surplus or a shape differs, all named.
    """
    wrong = sorted(set(own) ^ set(state))
    wrong += [key for key in own if key in state and own[key].shape != state[key].shape]
    if wrong:
        problem = f"weights do not fit the adapter: {', '.join(wrong[:6])}"
        raise InputError(where, problem, "use the settings the adapter was trained with")
    with torch.no_grad():
        for key, value in own.items():
            value.copy_(state[key])


class InPlace(Protocol):
    """What every kind of adapter offers once it is in a model; `Injection` and `LoraInjection` are two."""

    def parameters(self) -> list[nn.Parameter]: ...
    def activate(self, active: bool = True) -> None: ...
    def eject(self) -> None: ...
    def current_name(self, name: str) -> str: ...
    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state: dict[str, Tensor], where: str = "adapter") -> None: ...


def inject(
    model: nn.Module,
    sites: Sequence[SiteLike],
    make: Callable[[int], nn.Module],
    placement: Placement,
) -> Injection:
    """Put `make(width)` beside every site. The model's output is unchanged if adapters start at zero.

    Several injections may be nested and switched with `activate`; eject them in reverse order.

    Raises:
        ValueError: one site is named twice.
    """
    wrappers: dict[str, Adapted] = {}
    # Deepest first: the block that holds an adapted module is wrapped after it
    for site in sorted(sites, key=lambda site: site.path.count("."), reverse=True):
        if site.path in wrappers:
            raise ValueError(f"site {site.path} is named twice")
        target = get_module(model, site.path)
        adapter = make(site.width).to(next(target.parameters()).device)
        wrapper = Adapted(target, adapter, placement, channels_first=site.channels_first)
        wrapper.train(target.training)
        set_module(model, site.path, wrapper)
        wrappers[site.path] = wrapper
    return Injection(model, wrappers)


def use(injections: Mapping[str, InPlace], name: str | None) -> None:
    """Switch between adapters that share one base: `name` alone is active, None: the base alone."""
    for key, injection in injections.items():
        injection.activate(key == name)


def _owner(model: nn.Module, path: str) -> tuple[nn.Module, str]:
    """The module that holds `path`, looking through adapters on the way, and the last name."""
    *parents, name = path.split(".")
    owner = model
    for part in parents:
        owner = owner.get_submodule(part)
        while isinstance(owner, Adapted):
            owner = owner.target
    return owner, name


def get_module(model: nn.Module, path: str) -> nn.Module:
    """The module at a path of the bare model, with the adapters it wears, looking through those above."""
    owner, name = _owner(model, path)
    return owner.get_submodule(name)


def set_module(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put another module there."""
    owner, name = _owner(model, path)
    owner.register_module(name, module)


def save_adapter(path: str | Path, state: dict[str, Tensor]) -> None:
    """Write adapter weights as safetensors, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(save({key: value.contiguous().cpu() for key, value in state.items()}))
