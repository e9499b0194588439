"""Merging adapters into the layers they stand on: models and checkpoints."""

import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mmir.utils.checkpoint import load_checkpoint, save_checkpoint_atomic

from .freeze import FrozenBatchNorm
from .layer import KINDS, AdapterLayer
from .record import forget
from .walk import converted, replace_


def merge_(model: nn.Module) -> nn.Module:
    """Turn an adapted model into the plain one it computes, in place.

    Adapter layers become plain ones and `FrozenBatchNorm` the batch norm it was, so the
    state dict has the keys of the model that was never adapted, and those of biases
    where a method needs one that was not there.

    Args:
        model: Any model; without such layers nothing changes.

    Returns:
        The model, or the new layer if the model is an adapter layer itself.

    Raises:
        ValueError: For NaN or infinite weights or a method that cannot merge, naming
            the layer. The model is unchanged then.
    """
    new = converted(model, _plain)
    replace_(model, new)
    forget(model)
    return new.get(model, model)


def _plain(module: nn.Module) -> nn.Module | None:
    """The host's own kind of layer for one of ours, None for any other module."""
    if isinstance(module, AdapterLayer):
        return module.merge()
    return module.thaw() if isinstance(module, FrozenBatchNorm) else None


def merge_state_dict(
    state_dict: Mapping[str, Tensor], **options: Any
) -> dict[str, Tensor]:
    """Merge the adapters in the state dict of an adapted model.

    Args:
        state_dict: State dict of the model.
        **options: What holds for all layers where the state dict does not tell, such
            as `split` of factors.

    Returns:
        State dict of the plain model, bit-equal to that of `merge_(model)` with all
        adapters switched on; other entries are the same tensors. A plain state dict
        comes back unchanged.

    Raises:
        ValueError: The tensors of a layer do not fit together, naming it.
    """
    told, merged = getattr(state_dict, '_metadata', {}), dict(state_dict)
    for kind in dict.fromkeys(KINDS.values()):
        merged = kind.merge_state(merged, told, **options)
    return merged


def merge_checkpoint(
    source: str | os.PathLike,
    target: str | os.PathLike,
    trust: bool = False,
    **options: Any,
) -> int:
    """Write the plain checkpoint of an adapted one.

    Args:
        source: Checkpoint with factors or adapters.
        target: File to write: `meta` and the merged `state_dict`, no optimizer.
        trust: Whether the source may hold more than tensors and plain types.
        **options: See `merge_state_dict`.

    Returns:
        How many layers were merged.

    Raises:
        ValueError: There is nothing to merge, or it does not fit together.
    """
    checkpoint = load_checkpoint(source, trust=trust)
    state = checkpoint.get('state_dict', checkpoint)
    try:
        merged = merge_state_dict(state, **options)
    except ValueError as error:
        raise ValueError(f'{source}: {error}') from error
    gone = state.keys() - merged.keys()
    if not gone:
        raise ValueError(f'{source} holds no factors or adapters: nothing to merge')
    save_checkpoint_atomic(
        dict(meta=dict(checkpoint.get('meta', {})), state_dict=merged), target
    )
    owners = {key.rpartition('.')[0] for key in merged}
    return len({_owner(key, owners) for key in gone})


def _owner(key: str, owners: set[str]) -> str:
    """The layer of the merged model that a key belonged to."""
    while key and key not in owners:
        key = key.rpartition('.')[0]
    return key
