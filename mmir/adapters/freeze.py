"""What trains and what stays in a stage that adapts a model to another modality."""

import re
from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .layer import AdapterLayer
from .record import Stage, record_of
from .walk import HEADS, names_of, replace_

NORM_POLICIES = {
    'all': (True, True),
    'affine': (True, False),
    'stats': (False, True),
    'frozen': (False, False),
}
"""Whether weight and bias, and whether running statistics of norms change."""

NORMS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d)
"""Normalization layers; those with statistics are batch norms."""


class FrozenBatchNorm(nn.Module):
    """A batch norm whose running statistics never change, whatever the mode.

    It takes over parameters, buffers and hooks of the batch norm, so the keys of
    the state dict stay. It is no subclass of a batch norm on purpose: conversion to
    synchronized batch norm would otherwise thaw it.

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


def freeze_(
    model: nn.Module,
    name: str,
    *,
    method: str = '',
    trains: Sequence[str] = (),
    trainable: Sequence[str] | None = None,
    norm: str = 'all',
) -> Stage:
    """Freeze all of a model but the adapters of one name and named parts, in place.

    Freezing is by `requires_grad` and, for running statistics, by `FrozenBatchNorm`,
    so it outlives `model.train()`, copies and pickling. Call it before the optimizer
    is built and before the model is wrapped.

    Args:
        model: The model, with its adapters.
        name: Name of the adapters that train.
        method: Class name of the method, for the record.
        trains: Regular expressions of what the method itself trains.
        trainable: Regular expressions searched in the names of the parameters that
            train as well; None for heads, see `walk.HEADS`.
        norm: Policy for normalization layers outside of these parts: `'all'` (affine
            parameters train, statistics are updated), `'affine'`, `'stats'` (only
            this of the two) or `'frozen'` (neither).

    Returns:
        The record of the stage, which is kept on the model.

    Raises:
        ValueError: See `check_stage`, or nothing is left to train.
        TypeError: If `trainable` is a string.
    """
    check_stage(model, trainable, norm)
    parameters = list(model.named_parameters(remove_duplicate=False))
    own = adapter_keys(model, name)
    parts = [*trains, *([HEADS] if trainable is None else trainable)]

    def learns(key: str) -> bool:
        """Whether a tensor belongs to an adapter of the stage or a named part."""
        return key in own or any(re.search(pattern, key) for pattern in parts)

    _release_stages(model)
    model.requires_grad_(False)
    for parameter in (p for key, p in parameters if learns(key)):
        parameter.requires_grad_(True)
    moving = _set_norms(model, learns, *NORM_POLICIES[norm])
    learning = {key for key, parameter in parameters if parameter.requires_grad}
    if not learning:
        raise ValueError(f'nothing is left to train in stage {name!r}')
    changed = (k for k in model.state_dict() if k in learning | moving or learns(k))
    record_of(model).stage = stage = Stage(name, method, tuple(changed))
    return stage


def check_stage(model: nn.Module, trainable: Sequence[str] | None, norm: str) -> None:
    """Check arguments of `freeze_` against a model.

    Raises:
        ValueError: For an unknown policy, or an expression that finds no parameter.
        TypeError: If `trainable` is a string.
    """
    if norm not in NORM_POLICIES:
        known = ', '.join(NORM_POLICIES)
        raise ValueError(f'unknown norm {norm!r}, available: {known}')
    if isinstance(trainable, str):
        raise TypeError(f'give a list of expressions, not {trainable!r}')
    names = [key for key, _ in model.named_parameters(remove_duplicate=False)]
    for pattern in trainable or ():
        if not any(re.search(pattern, key) for key in names):
            raise ValueError(f'trainable {pattern!r} is found in no parameter name')


def adapter_keys(model: nn.Module, name: str) -> set[str]:
    """Keys of the tensors of all adapters of one name."""
    keys = set()
    for layer, names in names_of(model, AdapterLayer):
        adapters = dict(layer.named_adapters())
        if name in adapters:
            own = adapters[name].state_dict()
            where = f'{layer.container}.{name}'
            keys |= {f'{n}.{where}.{key}'.lstrip('.') for n in names for key in own}
    return keys


def _release_stages(model: nn.Module) -> None:
    """Switch `frozen_stages` of the hosts' backbones off.

    They freeze whole stages anew in every `train()`, the adapters in them included;
    what is to stay frozen is frozen here.
    """
    for module in model.modules():
        if isinstance(getattr(module, 'frozen_stages', None), int):
            module.frozen_stages = -1


def thaw_(model: nn.Module) -> None:
    """Turn every `FrozenBatchNorm` of a model back, in place."""
    replace_(model, {m: m.thaw() for m, _ in names_of(model, FrozenBatchNorm)})


def _set_norms(
    model: nn.Module, learns: Callable[[str], bool], affine: bool, stats: bool
) -> set[str]:
    """Apply a policy to the normalization layers outside of trainable parts.

    Returns:
        Keys of the running statistics that will be updated, within parts or not.
    """
    thaw_(model)
    frozen, moving = {}, set()
    for norm, names in names_of(model, NORMS):
        statistics = {f'{n}.{key}' for n in names for key, _ in norm.named_buffers()}
        part = any(map(learns, statistics))
        if not part and affine:
            norm.requires_grad_(True)
        if part or stats:
            moving |= statistics
        elif isinstance(norm, _BatchNorm) and norm.running_mean is not None:
            frozen[norm] = FrozenBatchNorm(norm)
    replace_(model, frozen)
    return moving
