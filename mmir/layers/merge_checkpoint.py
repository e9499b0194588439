"""Turn a checkpoint with factors into one of the dense network."""

import os

import torch
from torch import Tensor

from mmir.utils.checkpoint import load_checkpoint, save_checkpoint_atomic

from .split import Split, get_split


def merge_state_dict(
    state_dict: dict[str, Tensor], split: str | None = None
) -> dict[str, Tensor]:
    """Replace the factors and deltas of every layer by its dense kernel.

    Kernels of half precision are built in float32 first, as the layers do.

    Args:
        state_dict: State dict of a model with `TensorFactConv` layers.
        split: Split these layers were made with; None for the one which the state dict
            tells of each layer, or `'ts_dd'` if it does not.

    Returns:
        State dict of the dense model, bit-equal to that of `merge_(model)`; other
        entries are the same tensors. A dense state dict comes back unchanged.

    Raises:
        ValueError: For an unknown split, or one that is not that of a layer.
    """
    told = getattr(state_dict, '_metadata', {})
    merged: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        prefix, _, name = key.rpartition('.')
        layer = prefix.partition('.deltas.')[0]
        if name not in ('A', 'B') or not {f'{layer}.A', f'{layer}.B'} <= set(
            state_dict
        ):
            merged[key] = value
        elif name == 'A' and prefix == layer:
            pairs = _factors(state_dict, layer)
            cut = _split_of(layer, told.get(layer, {}).get('split'), split, pairs)
            if value.dtype in (torch.float16, torch.bfloat16):
                pairs = [(a.float(), b.float()) for a, b in pairs]
            merged[f'{layer}.weight'] = cut.fold(pairs).detach().to(value.dtype)
    return merged


def _split_of(
    layer: str, told: str | None, wanted: str | None, pairs: list[tuple[Tensor, Tensor]]
) -> Split:
    """Split of a layer by its state dict, checked against the wanted one."""
    name = wanted or told or 'ts_dd'
    cut = get_split(name)
    if told not in (None, name):
        raise ValueError(f'{layer}: factors of split {told!r}, not {name!r}')
    sides = len(cut.rows) + 1, len(cut.cols) + 1
    for a, b in pairs:
        if (a.ndim, b.ndim) != sides or a.shape[-1] != b.shape[0]:
            raise ValueError(
                f'{layer}: A of shape {tuple(a.shape)} and B of shape '
                f'{tuple(b.shape)} are no factors of split {name!r}, give split='
            )
    return cut


def _factors(state_dict: dict[str, Tensor], layer: str) -> list[tuple[Tensor, Tensor]]:
    """Pairs (A, B) of a layer: the base, then its deltas in the order of the file."""
    deltas = [
        key.removesuffix('.A')
        for key in state_dict
        if key.startswith(f'{layer}.deltas.') and key.endswith('.A')
    ]
    return [(state_dict[f'{p}.A'], state_dict[f'{p}.B']) for p in (layer, *deltas)]


def merge_checkpoint(
    source: str | os.PathLike,
    target: str | os.PathLike,
    trust: bool = False,
    split: str | None = None,
) -> int:
    """Write the dense checkpoint of a factorized one.

    Args:
        source: Checkpoint with factors and, perhaps, deltas.
        target: File to write: `meta` and the merged `state_dict`, no optimizer.
        trust: Whether the source may hold more than tensors and plain types.
        split: See `merge_state_dict`.

    Returns:
        How many layers were merged.

    Raises:
        ValueError: There are no factors in the source, or they have another split.
    """
    checkpoint = load_checkpoint(source, trust=trust)
    state = checkpoint.get('state_dict', checkpoint)
    try:
        merged = merge_state_dict(state, split)
    except ValueError as error:
        raise ValueError(f'{source}: {error}') from error
    count = len(merged.keys() - state.keys())
    if not count:
        raise ValueError(f'{source} holds no factors A and B: nothing to merge')
    meta = checkpoint.get('meta', {})
    save_checkpoint_atomic(dict(meta=meta, state_dict=merged), target)
    return count
