"""Turn a checkpoint with factors into one of the dense network."""

import os

import torch
from torch import Tensor

from mmir.utils.checkpoint import load_checkpoint, save_checkpoint_atomic

from .split import get_split


def merge_state_dict(
    state_dict: dict[str, Tensor], split: str = 'ts_dd'
) -> dict[str, Tensor]:
    """Replace the factors and deltas of every layer by its dense kernel.

    Kernels of half precision are built in float32 first, as the layers do.

    Args:
        state_dict: State dict of a model with `TensorFactConv` layers.
        split: Split these layers were made with.

    Returns:
        State dict of the dense model, bit-equal to that of `merge_(model)`; other
        entries are the same tensors. A dense state dict comes back unchanged.
    """
    fold = get_split(split).fold
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
            if value.dtype in (torch.float16, torch.bfloat16):
                pairs = [(a.float(), b.float()) for a, b in pairs]
            merged[f'{layer}.weight'] = fold(pairs).detach().to(value.dtype)
    return merged


def _factors(state_dict: dict[str, Tensor], layer: str) -> list[tuple[Tensor, Tensor]]:
    """Pairs (A, B) of a layer: the base, then its deltas in the order of the file."""
    deltas = [
        key.removesuffix('.A')
        for key in state_dict
        if key.startswith(f'{layer}.deltas.') and key.endswith('.A')
    ]
    return [(state_dict[f'{p}.A'], state_dict[f'{p}.B']) for p in (layer, *deltas)]


def merge_checkpoint(
    source: str | os.PathLike, target: str | os.PathLike, trust: bool = False
) -> int:
    """Write the dense checkpoint of a factorised one.

    Args:
        source: Checkpoint with factors and, perhaps, deltas.
        target: File to write: `meta` and the merged `state_dict`, no optimizer.
        trust: Whether the source may hold more than tensors and plain types.

    Returns:
        How many layers were merged.

    Raises:
        ValueError: There are no factors in the source.
    """
    checkpoint = load_checkpoint(source, trust=trust)
    state = checkpoint.get('state_dict', checkpoint)
    merged = merge_state_dict(state)
    count = len(merged.keys() - state.keys())
    if not count:
        raise ValueError(f'{source} holds no factors A and B: nothing to merge')
    save_checkpoint_atomic(
        dict(meta=checkpoint.get('meta', {}), state_dict=merged), target
    )
    return count
