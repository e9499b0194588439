"""Merging adapters into their base layers, in models and checkpoints."""

import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mmir.utils.checkpoint import (
    load_checkpoint,
    save_checkpoint_atomic,
    weights_of,
)

from .freeze import FrozenBatchNorm
from .layer import KINDS, AdapterLayer
from .record import forget
from .walk import converted, replace_


def merge_(model: nn.Module) -> nn.Module:
    """Merge an adapted model into the equivalent plain one, in place.

    Adapter layers become plain layers and each `FrozenBatchNorm` becomes the batch norm
    it was. The state dict then has the keys of a model that was never adapted, plus
    biases where the method needs one that did not exist.

    Args:
        model: Any model; without adapter layers nothing changes.

    Returns:
        The model, or the new layer if the model is itself an adapter layer.

    Raises:
        ValueError: NaN or infinite weights, or a method that cannot be merged; names
            the layer. The model is unchanged then.
    """
    new = converted(model, _plain)
    replace_(model, new)
    forget(model)
    return new.get(model, model)


def _plain(module: nn.Module) -> nn.Module | None:
    """The plain layer for one of ours; None for any other module."""
    if isinstance(module, AdapterLayer):
        return module.merge()
    return module.thaw() if isinstance(module, FrozenBatchNorm) else None


def merge_state_dict(
    state_dict: Mapping[str, Tensor], **options: Any
) -> dict[str, Tensor]:
    """Merge the adapters in the state dict of an adapted model.

    Args:
        state_dict: State dict of the model.
        **options: Values for all layers for which the state dict records none, such as
            the `split` of factors.

    Returns:
        State dict of the plain model, bit-equal to that of `merge_(model)` with all
        adapters switched on; unrelated entries are the same tensors. A plain state dict
        is returned unchanged.

    Raises:
        ValueError: The tensors of a layer do not fit together; names the layer.
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
    """Merge the adapters of a checkpoint file and write the plain checkpoint.

    Args:
        source: Checkpoint with factors or adapters.
        target: File to write: `meta` and the merged `state_dict`, no optimizer.
        trust: Whether the source may hold more than tensors and plain types.
        **options: See `merge_state_dict`.

    Returns:
        Number of merged layers.

    Raises:
        ValueError: There is nothing to merge, or it does not fit together.
    """
    checkpoint = load_checkpoint(source, trust=trust)
    state = weights_of(checkpoint, source)
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
