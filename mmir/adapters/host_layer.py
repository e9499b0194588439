"""Adapter layers that stand on a module of a host, such as a transformer block."""

import re
from collections.abc import Mapping
from functools import cache
from types import new_class
from typing import Any

from torch import nn

from .insert import InsertReport, insert_adapters_
from .layer import AdapterLayer, take_over
from .plain import why_not_plain, why_tied
from .walk import NameFilter


class HostLayer(AdapterLayer):
    """Adapter layer on a module of any class, which keeps its own `forward`.

    The layer is an instance of the module's class as well, so attributes, methods and
    `isinstance` work as before; `super().forward(...)` runs the module's own code.
    Subclasses implement `why_unfit`, `add_adapter`, `adapter_options` and `forward`.
    """

    @classmethod
    def why_unfit(cls, module: nn.Module) -> str | None:
        """Reason why the layer cannot stand on a module; None if it can."""
        raise NotImplementedError

    @classmethod
    def from_base(cls, module: nn.Module) -> 'HostLayer':
        """See `AdapterLayer`."""
        reason = why_not_plain(module, (type(module),)) or cls.why_unfit(module)
        if reason:
            raise ValueError(
                f'a {cls.__name__} cannot stand on this {type(module).__name__}: '
                f'{reason}'
            )
        layer = take_over(on_host(cls, type(module)), module)
        layer.original = type(module)
        layer.add_module(cls.container, nn.ModuleDict().train(module.training))
        return layer

    def merge(self) -> nn.Module:
        """Raises a ValueError: such adapters are no change of weights."""
        raise ValueError(
            f'{type(self).__name__} cannot be merged into a {self.original.__name__}: '
            'it computes more than the plain layer can; deploy the adapted model'
        )

    def __reduce_ex__(self, protocol: int) -> tuple:
        """Pickle by the two classes, since their combination has no importable name."""
        kind = type(self).__bases__[0]  # see `on_host`
        return _blank, (kind, self.original), self.__dict__.copy()


@cache
def on_host(cls: type[HostLayer], host: type[nn.Module]) -> type[HostLayer]:
    """Subclass of an adapter layer and a class of a host."""
    names = {'__module__': cls.__module__, '__doc__': cls.__doc__}
    options = dict(combined=True)
    return new_class(cls.__name__, (cls, host), options, lambda b: b.update(names))


def _blank(cls: type[HostLayer], host: type[nn.Module]) -> HostLayer:
    """Instance without state, for unpickling and copies."""
    made = on_host(cls, host)
    return made.__new__(made)


def insert_at_(
    model: nn.Module, name: str, layers: Mapping[str, type[HostLayer]], **options: Any
) -> InsertReport:
    """Add an adapter to modules of a model, to all of them or to none.

    Args:
        model: The model, not wrapped.
        name: Name of the adapters.
        layers: Name of a module -> layer to put on it.
        **options: Arguments of `add_adapter`.

    Returns:
        See `insert_adapters_`.

    Raises:
        ValueError: A module cannot have the adapter, see `HostLayer.why_unfit`; the
            message begins with its name. The model is unchanged then.
    """
    tied, types = why_tied(model), {}
    for key, kind in layers.items():
        module = model.get_submodule(key)
        if isinstance(module, kind):
            module.check_name(name)
            continue
        reason = why_not_plain(module, (type(module),)) or tied.get(module)
        if reason := reason or kind.why_unfit(module):
            raise ValueError(f'{key}: no {kind.__name__} here: {reason}')
        types[type(module)] = kind
    names = NameFilter([f'^{re.escape(key)}$' for key in layers], [])
    kinds = list(dict.fromkeys(layers.values()))
    return insert_adapters_(model, name, kinds, names, types=types, **options)
