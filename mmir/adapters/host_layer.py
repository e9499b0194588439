"""Adapter layers that stand on a module of a host, such as a transformer block."""

from functools import cache
from types import new_class

from torch import nn

from .layer import AdapterLayer, take_over
from .plain import why_not_plain


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
