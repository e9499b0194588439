"""Loading dense and factorized checkpoints, with or without deltas, into a layer."""

import warnings
from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from mmir.adapters.geometry import KernelShape

from .rank import describe_kernel
from .split import SPLITS, get_split


class Factored(Protocol):
    """Interface of a `TensorFactConv` that loading needs."""

    kernel_shape: KernelShape
    rank: int
    split: str
    deltas: nn.ModuleDict

    def decompose(self, kernel: Tensor) -> tuple[Tensor, Tensor]:
        """Factorize a dense kernel at the rank of the layer."""

    def augment(self, name: str, rank: int) -> object:
        """Add a delta."""


def load_factors(
    layer: Factored,
    state_dict: dict[str, Any],
    prefix: str,
    metadata: Mapping[str, Any],
    error_msgs: list[str],
) -> None:
    """Prepare the entries of a state dict that belong to `layer`, in place.

    - A dense `weight` is factorized to `A` and `B` at the rank of the layer.
    - Deltas that only the checkpoint has are created, frozen because no optimizer knows
      them.
    - Missing and unexpected keys are left to torch to report.

    Args:
        layer: Layer about to load.
        state_dict: State dict of the layer or of a model around it.
        prefix: Prefix of the layer's keys, including the final dot.
        metadata: Metadata of the layer in the state dict; may hold its `split`.
        error_msgs: Receives an error message if a dense kernel has another shape.

    Raises:
        ValueError: NaN or infinite weights, or the rank or split differs from that of
            the layer.
    """
    where = prefix[:-1] or f'kernel of {describe_kernel(layer.kernel_shape)}'
    tensors = {
        key[len(prefix) :]: value
        for key, value in state_dict.items()
        if key.startswith(prefix) and isinstance(value, Tensor)
    }
    for key, value in tensors.items():
        if not (value.is_meta or value.isfinite().all()):
            raise ValueError(f'{where}: {key} holds NaN or infinite values')
    if 'weight' in tensors and not {'A', 'B'} & tensors.keys():
        del state_dict[f'{prefix}weight']
        if tensors['weight'].shape == layer.kernel_shape:
            factors = _factors_of(layer, tensors['weight'])
            state_dict[f'{prefix}A'], state_dict[f'{prefix}B'] = factors
        else:
            error_msgs.append(
                f'size mismatch for {where}: the dense kernel of the checkpoint is '
                f'{tuple(tensors["weight"].shape)}, the layer {layer.kernel_shape}'
            )
    _check_split(where, layer, tensors, metadata.get('split', layer.split))
    _check_rank(where, layer, layer.rank, tensors, '')
    names = {key.split('.')[1] for key in tensors if key.startswith('deltas.')}
    for name in sorted(names):
        _prepare_delta(layer, name, tensors, where)


def _factors_of(layer: Factored, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Factors of a dense kernel; empty tensors for a kernel on the meta device."""
    if not kernel.is_meta:
        return layer.decompose(kernel)
    shapes = get_split(layer.split).factor_shapes(layer.kernel_shape, layer.rank)
    return tuple(kernel.new_empty(shape) for shape in shapes)


def _check_split(
    where: str, layer: Factored, tensors: dict[str, Tensor], told: str
) -> None:
    """Check that factors have the split of the layer, as far as it can be told."""
    if not {'A', 'B'} <= tensors.keys():
        return
    shapes = tuple(tuple(tensors[key].shape) for key in 'AB')
    if told == layer.split:
        rank = shapes[0][-1] if shapes[0] else 0
        fits = [
            name
            for name, split in SPLITS.items()
            if split.factor_shapes(layer.kernel_shape, rank) == shapes
        ]
        told = layer.split if layer.split in fits or not fits else ' or '.join(fits)
    if told != layer.split:
        raise ValueError(
            f'{where}: the factors of the checkpoint have split {told}, the layer has '
            f'{layer.split}; build the model with the split of the checkpoint'
        )


def _prepare_delta(
    layer: Factored, name: str, tensors: dict[str, Tensor], where: str
) -> None:
    """Create the delta `name` if the layer lacks it; else compare the ranks."""
    key = f'deltas.{name}.'
    if name in layer.deltas:
        _check_rank(where, layer, layer.deltas[name].rank, tensors, key)
    elif {f'{key}A', f'{key}B'} <= tensors.keys():
        warnings.warn(
            f'the checkpoint has a delta {name!r} the model lacks: added, frozen'
        )
        layer.augment(name, tensors[f'{key}B'].shape[0])
        layer.deltas[name].requires_grad_(False)


def _check_rank(
    where: str,
    layer: Factored,
    rank: int,
    tensors: dict[str, Tensor],
    key: str,
) -> None:
    """Compare the last axis of A and the first axis of B with `rank`."""
    shapes = get_split(layer.split).factor_shapes(layer.kernel_shape, rank)
    for factor, side, shape in (('A', -1, shapes[0]), ('B', 0, shapes[1])):
        tensor = tensors.get(key + factor)
        if (
            tensor is not None
            and tensor.ndim == len(shape)
            and tensor.shape[side] != rank
        ):
            raise ValueError(
                f'{where}: {key}{factor} of the checkpoint has rank '
                f'{tensor.shape[side]}, the layer has rank {rank}; build the model '
                'with the rank of the checkpoint'
            )
