"""Switching loaded adapters on and off, and unloading them."""

import torch
from torch import Tensor, nn

from .layer import AdapterLayer
from .record import LoadedAdapter, record_of
from .walk import names_of, replace_, unwrap


@torch.no_grad()
def exchange(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Write tensors into a model by key; return copies of the previous values.

    A tensor with several keys is written, and returned, once.
    """
    state, former, done = model.state_dict(), {}, set()
    for key, value in tensors.items():
        place = state[key].data_ptr(), state[key].shape
        if place not in done:
            done.add(place)
            former[key] = state[key].clone()
            state[key].copy_(value)
    return former


def _loaded(model: nn.Module, name: str) -> LoadedAdapter:
    loaded = record_of(model).loaded
    if name not in loaded:
        raise ValueError(
            f'adapter {name!r} was not loaded from a file (loaded: {list(loaded)}), so '
            'the former head and norms are unknown'
        )
    return loaded[name]


def switch_adapter_(model: nn.Module, name: str, on: bool) -> None:
    """Switch a loaded adapter on or off, with everything that trained along with it.

    Works in place. Off restores the model as it was before, bit for bit.

    Args:
        model: Model the adapter was loaded into; may be wrapped.
        name: Name of the adapter.
        on: Whether to switch it on.

    Raises:
        ValueError: It was not loaded, or another adapter that replaced the same tensors
            was switched on later and has to be switched off first.
    """
    model = unwrap(model)
    adapter, loaded = _loaded(model, name), record_of(model).loaded
    if adapter.on == on:
        return
    if not on:
        later = list(loaded)[list(loaded).index(name) + 1 :]
        for other in later:
            if loaded[other].on and loaded[other].others.keys() & adapter.others.keys():
                raise ValueError(
                    f'adapter {other!r} was switched on after {name!r} and replaced '
                    f'the same tensors: switch {other!r} off first'
                )
    adapter.others, adapter.on = exchange(model, adapter.others), on
    layers = {names[0]: layer for layer, names in names_of(model, AdapterLayer)}
    for key in adapter.layers:
        layers[key].enable_adapter(name, on)
    if on:
        loaded[name] = loaded.pop(name)


def unload_adapter(model: nn.Module, name: str) -> None:
    """Remove a loaded adapter; restores the model as it was before, bit for bit.

    Args:
        model: Model the adapter was loaded into; may be wrapped.
        name: Name of the adapter.

    Raises:
        ValueError: See `switch_adapter_`.
    """
    model = unwrap(model)
    switch_adapter_(model, name, False)
    layers = {names[0]: layer for layer, names in names_of(model, AdapterLayer)}
    adapter = record_of(model).loaded.pop(name)
    for key in adapter.layers:
        layers[key].remove_adapter(name)
    empty = {
        layers[key]: layers[key].release()
        for key in adapter.replaced
        if not dict(layers[key].named_adapters())
    }
    replace_(model, empty)
