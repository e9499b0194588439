"""Inserting adapters of one kind into the layers of a model."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from .layer import AdapterLayer
from .walk import NameFilter, converted, names_of, replace_


def insert_adapters_(
    model: nn.Module,
    name: str,
    kinds: Sequence[type[AdapterLayer]],
    chosen: NameFilter,
    **options: Any,
) -> dict[str, AdapterLayer]:
    """Add an adapter to each layer that can have one, in place.

    Most methods implement `Method.insert_` with this function. Plain modules become
    adapter layers; adapter layers of `kinds` get another adapter. A module with several
    names stays one module. Modules inside adapters are skipped.

    Args:
        model: The model, not wrapped.
        name: Name of the adapters.
        kinds: Classes of adapter layers. A plain module is converted to the first class
            whose `stands_on` lists its type.
        chosen: Selects layers by name.
        **options: Arguments of `AdapterLayer.add_adapter`.

    Returns:
        The layers that got an adapter, by their first name.

    Raises:
        ValueError: There is no such layer, or one rejects the name or an option; the
            message begins with its name. The model is unchanged then.
    """
    kind_of = {t: kind for kind in reversed(kinds) for t in kind.stands_on}
    inside = _parts_of_adapters(model)
    names = {
        module: found[0]
        for module, found in names_of(model, (*kinds, *kind_of))
        if type(module) in (*kinds, *kind_of) and module not in inside
        # a plain module without a parent cannot be replaced
        if (found[0] or type(module) in kinds) and chosen.reason(found) is None
    }
    if not names:
        types = ', '.join(dict.fromkeys(t.__name__ for t in kind_of))
        raise ValueError(f'nothing to adapt: no {types}; check include, exclude')
    added: list[AdapterLayer] = []

    def adapted(module: nn.Module) -> AdapterLayer | None:
        """The layer with the new adapter; None for modules to leave alone."""
        if module not in names:
            return None
        kind = kind_of.get(type(module))
        layer = kind.from_base(module) if kind else module
        layer.add_adapter(name, **options)
        added.append(layer)
        return layer

    try:
        layers = converted(model, adapted)
    except BaseException:
        for layer in added:
            layer.remove_adapter(name)
        raise
    replace_(model, layers)
    return {names[module]: layer for module, layer in layers.items()}


def _parts_of_adapters(model: nn.Module) -> set[nn.Module]:
    """The modules inside adapters."""
    return {
        part
        for layer in model.modules()
        if isinstance(layer, AdapterLayer)
        for _, adapter in layer.named_adapters()
        for part in adapter.modules()
    }
