"""Merging factors and deltas into dense kernels in a state dict."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmir.adapters import AdapterLayer

from .split import Split, get_split

_OTHERS = f'.{AdapterLayer.container}.'  # adapters of other methods also have A and B


def merge_factors(
    state: Mapping[str, Tensor],
    told: Mapping[str, Mapping[str, Any]],
    split: str | None = None,
) -> dict[str, Tensor]:
    """Replace the factors and deltas of every layer by its dense kernel.

    Half-precision kernels are built in float32 first, as the layers do.

    Args:
        state: State dict of a model with `TensorFactConv` layers.
        told: `_metadata` of the state dict, which may hold the `split` of a layer.
        split: Split of all layers. Default: the recorded one, else `'ts_dd'`.

    Returns:
        State dict of the dense model; unrelated entries are the same tensors.

    Raises:
        ValueError: Unknown split, or one that does not match a layer.
    """
    merged: dict[str, Tensor] = {}
    for key, value in state.items():
        prefix, _, name = key.rpartition('.')
        layer = prefix.partition('.deltas.')[0]
        if prefix.startswith('deltas.'):  # the layer is the whole model
            layer = ''
        where = f'{layer}.'.lstrip('.')
        foreign = _OTHERS in f'.{key}' or name not in ('A', 'B')
        if foreign or not {f'{where}A', f'{where}B'} <= state.keys():
            merged[key] = value
        elif name == 'A' and prefix == layer:
            pairs = _factors(state, where)
            cut = _split_of(layer, told.get(layer, {}).get('split'), split, pairs)
            if value.dtype in (torch.float16, torch.bfloat16):
                pairs = [(a.float(), b.float()) for a, b in pairs]
            merged[f'{where}weight'] = cut.fold(pairs).detach().to(value.dtype)
    return merged


def _split_of(
    layer: str, told: str | None, wanted: str | None, pairs: list[tuple[Tensor, Tensor]]
) -> Split:
    """Split of a layer, checked against its state dict."""
    name = wanted or told or 'ts_dd'
    cut = get_split(name)
    if told not in (None, name):
        raise ValueError(f'{layer}: factors of split {told!r}, not {name!r}')
    sides = len(cut.rows) + 1, len(cut.cols) + 1
    for a, b in pairs:
        if (a.ndim, b.ndim) != sides or a.shape[-1] != b.shape[0]:
            raise ValueError(
                f'{layer}: A of shape {tuple(a.shape)} and B of shape '
                f'{tuple(b.shape)} are not factors of split {name!r}, give split='
            )
    return cut


def _factors(state: Mapping[str, Tensor], where: str) -> list[tuple[Tensor, Tensor]]:
    """Pairs (A, B) of a layer: base first, then the deltas in file order."""
    deltas = [
        key.removesuffix('A')
        for key in state
        if key.startswith(f'{where}deltas.') and key.endswith('.A')
    ]
    return [(state[f'{p}A'], state[f'{p}B']) for p in (where, *deltas)]
