"""What trains and what stays in a stage that adapts a model to another modality."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .tensorfact import TensorFactConv
from .walk import HEADS, names_of, replace_, unwrap

BN_POLICIES = {
    'all': (True, True),
    'affine': (True, False),
    'stats': (False, True),
    'frozen': (False, False),
}
"""Whether weight and bias, and whether running statistics of batch norms change."""


class FrozenBatchNorm(nn.Module):
    """A batch norm whose running statistics never change, whatever the mode.

    It takes over parameters, buffers and hooks of the batch norm, so the keys of
    the state dict stay. It is no subclass of a batch norm on purpose: conversion to
    synchronised batch norm would otherwise thaw it.

    Args:
        bn: Batch norm with running statistics; not to be used any more.
    """

    def __init__(self, bn: _BatchNorm) -> None:
        super().__init__()
        self.__dict__.update(bn.__dict__)
        self.original = type(bn)
        self.train(False)

    def thaw(self) -> _BatchNorm:
        """Return the batch norm this module was made of, with its tensors."""
        bn = self.original.__new__(self.original)
        bn.__dict__.update(self.__dict__)
        del bn.__dict__['original']
        return bn

    def train(self, mode: bool = True) -> 'FrozenBatchNorm':
        """Stay in evaluation; hosts that fold batch norms look at the flag."""
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x` (N, C, ...) by the running statistics."""
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=False,
            eps=self.eps,
        )

    def extra_repr(self) -> str:
        """Size, and what it was."""
        return f'{self.num_features}, eps={self.eps}, was={self.original.__name__}'


@dataclass(frozen=True)
class Stage:
    """What a stage of training changes; kept on the model by `freeze_base_`.

    Attributes:
        name: Name of the stage and of its deltas.
        changed: Keys of the state dict that may change: deltas, other trainable
            parameters, running statistics that are updated.
    """

    name: str
    changed: tuple[str, ...]


def freeze_base_(
    model: nn.Module,
    name: str | None = None,
    *,
    trainable: Sequence[str] | None = None,
    bn: str = 'all',
) -> Stage:
    """Freeze all of a model but the deltas of one name and named parts, in place.

    Freezing is by `requires_grad` and, for running statistics, by `FrozenBatchNorm`,
    so it outlives `model.train()`, copies and pickling. Call it before the optimizer
    is built and before the model is wrapped. `delta_state_dict` reads the record.

    Args:
        model: Model with deltas, see `augment_`.
        name: Which deltas train; None if the model has deltas of one name only.
        trainable: Regular expressions searched in the names of the parameters that
            train as well; None for heads, see `walk.HEADS`.
        bn: Policy for batch norms outside of these parts: `'all'` (affine
            parameters train, statistics are updated), `'affine'`, `'stats'` (only
            this of the two) or `'frozen'` (neither).

    Returns:
        The record of the stage.

    Raises:
        ValueError: For an unknown policy or name, an expression that finds nothing,
            or if nothing is left to train.
        TypeError: If `trainable` is a string.
    """
    if bn not in BN_POLICIES:
        raise ValueError(f'unknown bn {bn!r}, available: {", ".join(BN_POLICIES)}')
    if isinstance(trainable, str):
        raise TypeError(f'give a list of expressions, not {trainable!r}')
    name = _delta_name(model, name)
    parameters = list(model.named_parameters(remove_duplicate=False))
    for pattern in trainable or ():
        if not any(re.search(pattern, key) for key, _ in parameters):
            raise ValueError(f'trainable {pattern!r} is found in no parameter name')
    parts = [rf'(^|\.)deltas\.{name}\.[AB]$']
    parts += [HEADS] if trainable is None else trainable

    def trains(key: str) -> bool:
        """Whether a tensor belongs to a delta of the stage or a named part."""
        return any(re.search(pattern, key) for pattern in parts)

    _release_stages(model)
    model.requires_grad_(False)
    for parameter in (p for key, p in parameters if trains(key)):
        parameter.requires_grad_(True)
    moving = _set_batch_norms(model, trains, *BN_POLICIES[bn])
    learning = {key for key, parameter in parameters if parameter.requires_grad}
    if not learning:
        raise ValueError(f'nothing is left to train in stage {name!r}')
    changed = (k for k in model.state_dict() if k in learning | moving or trains(k))
    model._mmir_stage = stage = Stage(name, tuple(changed))
    return stage


def _release_stages(model: nn.Module) -> None:
    """Switch `frozen_stages` of the hosts' backbones off.

    They freeze whole stages anew in every `train()`, the deltas in them included; what
    is to stay frozen is frozen here.
    """
    for module in model.modules():
        if isinstance(getattr(module, 'frozen_stages', None), int):
            module.frozen_stages = -1


def _delta_name(model: nn.Module, name: str | None) -> str:
    """Check which deltas are meant against those the model has."""
    present = {
        key
        for layer in model.modules()
        if isinstance(layer, TensorFactConv)
        for key in layer.deltas
    }
    if name is None and len(present) == 1:
        return present.pop()
    if name is None or (present and name not in present):
        raise ValueError(
            f'no deltas are called {name!r}: the model has {sorted(present)}; '
            'say whose stage it is'
        )
    return name


def _set_batch_norms(
    model: nn.Module, trains: Callable[[str], bool], affine: bool, stats: bool
) -> set[str]:
    """Apply a policy to the batch norms outside of trainable parts.

    Returns:
        Keys of the running statistics that will be updated, within parts or not.
    """
    replace_(model, {m: m.thaw() for m, _ in names_of(model, FrozenBatchNorm)})
    frozen, moving = {}, set()
    for bn, names in names_of(model, _BatchNorm):
        statistics = {f'{n}.{key}' for n in names for key, _ in bn.named_buffers()}
        part = any(map(trains, statistics))
        if not part and affine:
            bn.requires_grad_(True)
        if part or stats:
            moving |= statistics
        elif bn.running_mean is not None:
            frozen[bn] = FrozenBatchNorm(bn)
    replace_(model, frozen)
    return moving


def stage_of(model: nn.Module) -> Stage:
    """Record of the stage a model is in.

    Raises:
        ValueError: If `freeze_base_` was not called.
    """
    stage = getattr(model, '_mmir_stage', None)
    if stage is None:
        raise ValueError(
            'the model is in no stage of adaptation: build it by mmir.factorized '
            'with delta=dict(...), or call augment_ and freeze_base_ before training'
        )
    return stage


def forget_stage(model: nn.Module) -> None:
    """Remove the records of the stage and of loaded deltas, if there are any."""
    for record in ('_mmir_stage', '_mmir_loaded'):
        model.__dict__.pop(record, None)


def in_stage(model: nn.Module) -> bool:
    """Tell whether a model, wrapped or not, is in a stage of adaptation."""
    return getattr(unwrap(model), '_mmir_stage', None) is not None
