"""Inserting adapters of one kind into the layers of a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from .layer import AdapterLayer
from .plain import why_not_plain, why_tied
from .report import tally
from .walk import NameFilter, converted, names_of, replace_


@dataclass(frozen=True)
class InsertReport:
    """Report of `insert_adapters_`.

    Attributes:
        layers: The layers that got an adapter, by their first name.
        skipped: Reason why a layer of a fitting class was left as it is, by name;
            without the layers that were not chosen.
    """

    layers: dict[str, AdapterLayer]
    skipped: dict[str, str]

    @property
    def notes(self) -> dict[str, str]:
        """Note on the skipped layers for `TrainableReport`; empty if there are none."""
        if not self.skipped:
            return {}
        return {f'left as they are, {len(self.skipped)} layers': tally(self.skipped)}


def insert_adapters_(
    model: nn.Module,
    name: str,
    kinds: Sequence[type[AdapterLayer]],
    chosen: NameFilter,
    *,
    types: Mapping[type[nn.Module], type[AdapterLayer]] | None = None,
    **options: Any,
) -> InsertReport:
    """Add an adapter to each layer that can have one, in place.

    Most methods implement `Method.insert_` with this function. Plain modules become
    adapter layers; adapter layers of `kinds` get another adapter. A module with several
    names stays one module. Modules inside adapters and those that `why_not_plain` or
    `why_tied` has a reason for are skipped.

    Args:
        model: The model, not wrapped.
        name: Name of the adapters.
        kinds: Classes of adapter layers. A plain module is converted to the first class
            whose `stands_on` lists its type.
        chosen: Selects layers by name.
        types: Type of a module -> class of adapter layer, instead of `stands_on`.
        **options: Arguments of `AdapterLayer.add_adapter`.

    Returns:
        The layers that got an adapter, and why others did not.

    Raises:
        ValueError: There is no such layer, or one rejects the name or an option; the
            message begins with its name. The model is unchanged then.
    """
    kind_of = types or {t: kind for kind in reversed(kinds) for t in kind.stands_on}
    names, skipped = _candidates(model, kinds, kind_of, chosen)
    _check_any(names, skipped, kind_of)
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
    for layer in added:
        layer.connect(model)
    return InsertReport({names[m]: layer for m, layer in layers.items()}, skipped)


def _check_any(
    names: Mapping[nn.Module, str],
    skipped: Mapping[str, str],
    kind_of: Mapping[type[nn.Module], type[AdapterLayer]],
) -> None:
    """Raise a ValueError if there is no layer to adapt."""
    if not names:
        types = ', '.join(dict.fromkeys(t.__name__ for t in kind_of))
        raise ValueError(
            f'nothing to adapt: no {types}; check include, exclude'
            + (f'. Left as they are: {tally(skipped)}' if skipped else '')
        )


def _candidates(
    model: nn.Module,
    kinds: Sequence[type[AdapterLayer]],
    kind_of: Mapping[type[nn.Module], type[AdapterLayer]],
    chosen: NameFilter,
) -> tuple[dict[nn.Module, str], dict[str, str]]:
    """First names of the layers to adapt, and reasons why others are left alone."""
    inside, tied = _parts_of_adapters(model), why_tied(model)
    names, skipped = {}, {}
    for module, found in names_of(model, (*kinds, *kind_of)):
        if module in inside or chosen.reason(found) is not None:
            continue
        if isinstance(module, tuple(kinds)):
            names[module] = found[0]
        elif base := next((t for t in kind_of if isinstance(module, t)), None):
            kind = kind_of.get(type(module), kind_of[base])
            types = tuple(t for t in kind_of if kind_of[t] is kind)
            reason = why_not_plain(module, types) or tied.get(module)
            if not found[0]:
                reason = 'it is the model itself, which cannot be replaced'
            if reason:
                skipped[found[0]] = reason
            else:
                names[module] = found[0]
    return names, skipped


def _parts_of_adapters(model: nn.Module) -> set[nn.Module]:
    """The modules inside adapters."""
    return {
        part
        for layer in model.modules()
        if isinstance(layer, AdapterLayer)
        for _, adapter in layer.named_adapters()
        for part in adapter.modules()
    }
