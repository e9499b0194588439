"""Freezing: what trains and what stays fixed while a model is adapted."""

import logging
import re
from collections.abc import Callable, Sequence

import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from .layer import AdapterLayer
from .plain import moving_buffers, why_not_plain_norm
from .record import Stage, record_of
from .walk import HEADS, names_of, replace_

NORM_POLICIES = {
    'all': (True, True),
    'affine': (True, False),
    'stats': (False, True),
    'frozen': (False, False),
}
"""Policy -> whether weight and bias train, whether running statistics are updated."""

NORMS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d)
"""Normalization layers. Only batch norms have running statistics."""


class FrozenBatchNorm(nn.Module):
    """Batch norm whose running statistics never change, whatever the mode.

    It takes over the parameters, buffers and hooks of the batch norm, so the keys of
    the state dict stay the same. It deliberately does not subclass a batch norm:
    conversion to SyncBatchNorm would otherwise unfreeze it.

    Args:
        bn: Batch norm with running statistics; do not use it afterwards.
    """

    def __init__(self, bn: _BatchNorm) -> None:
        super().__init__()
        self.__dict__.update(bn.__dict__)
        self.original = type(bn)
        self.train(False)

    def thaw(self) -> _BatchNorm:
        """Return the batch norm this module was made from, with its tensors."""
        bn = self.original.__new__(self.original)
        bn.__dict__.update(self.__dict__)
        del bn.__dict__['original']
        return bn

    def train(self, mode: bool = True) -> 'FrozenBatchNorm':
        """Stay in evaluation mode; hosts that fold batch norms check the flag."""
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize `x` (N, C, ...) with the running statistics."""
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
        """Number of features, epsilon and original type."""
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
    """Freeze a model except for the adapters of one name and some parts, in place.

    Parameters are frozen by `requires_grad`, running statistics by `FrozenBatchNorm`,
    so the model stays frozen through `model.train()`, copies and pickling. Call it
    before building the optimizer and before wrapping the model.

    Args:
        model: The model, with its adapters.
        name: Name of the adapters that train.
        method: Class name of the method, for the record.
        trains: Regular expressions; parameters that the method itself trains.
        trainable: Regular expressions; parameters whose names match one train as well.
            Default: the heads, see `walk.HEADS`.
        norm: Policy for normalization layers outside these parts. `'all'`: the affine
            parameters train and the running statistics are updated. `'affine'`,
            `'stats'`: only one of the two. `'frozen'`: neither.

    Returns:
        The stage, which is also recorded on the model.

    Raises:
        ValueError: See `check_stage`, or nothing is left to train.
        TypeError: `trainable` is a string.
    """
    check_stage(model, trainable, norm)
    parameters = list(model.named_parameters(remove_duplicate=False))
    own = adapter_keys(model, name)
    parts = [*trains, *([HEADS] if trainable is None else trainable)]

    def learns(key: str) -> bool:
        """Check whether a tensor belongs to the stage's adapters or a trained part."""
        return key in own or any(re.search(pattern, key) for pattern in parts)

    _release_stages(model)
    model.requires_grad_(False)
    for parameter in (p for key, p in parameters if learns(key)):
        parameter.requires_grad_(True)
    moving = _set_norms(model, learns, *NORM_POLICIES[norm]) | moving_buffers(model)
    learning = {key for key, parameter in parameters if parameter.requires_grad}
    if not learning:
        raise ValueError(f'nothing is left to train in stage {name!r}')
    changed = (k for k in model.state_dict() if k in learning | moving or learns(k))
    record_of(model).stage = stage = Stage(name, method, tuple(changed))
    return stage


def check_stage(model: nn.Module, trainable: Sequence[str] | None, norm: str) -> None:
    """Check the arguments of `freeze_` against a model.

    Raises:
        ValueError: Unknown policy, an expression that matches no parameter, or a
            parameter of a lazy module that is not initialized yet.
        TypeError: `trainable` is a string.
    """
    if norm not in NORM_POLICIES:
        known = ', '.join(NORM_POLICIES)
        raise ValueError(f'unknown norm {norm!r}, available: {known}')
    if isinstance(trainable, str):
        raise TypeError(f'give a list of expressions, not {trainable!r}')
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for key, parameter in parameters.items():
        if is_lazy(parameter):
            raise ValueError(
                f'{key} is not initialized yet: run one batch through the model first'
            )
    for pattern in trainable or ():
        if not any(re.search(pattern, key) for key in parameters):
            raise ValueError(f'trainable {pattern!r} matches no parameter name')


def adapter_keys(model: nn.Module, name: str) -> set[str]:
    """State dict keys of all adapters with one name."""
    keys = set()
    for layer, names in names_of(model, AdapterLayer):
        adapters = dict(layer.named_adapters())
        if name in adapters:
            own = adapters[name].state_dict()
            where = f'{layer.container}.{name}'
            keys |= {f'{n}.{where}.{key}'.lstrip('.') for n in names for key in own}
    return keys


def _release_stages(model: nn.Module) -> None:
    """Disable `frozen_stages` of the hosts' backbones.

    It freezes whole stages again on every `train()`, including the adapters in them.
    Here freezing is up to `freeze_` alone.
    """
    for module in model.modules():
        if isinstance(getattr(module, 'frozen_stages', None), int):
            module.frozen_stages = -1


def thaw_(model: nn.Module) -> None:
    """Turn every `FrozenBatchNorm` of a model back into a batch norm, in place."""
    replace_(model, {m: m.thaw() for m, _ in names_of(model, FrozenBatchNorm)})


def _set_norms(
    model: nn.Module, learns: Callable[[str], bool], affine: bool, stats: bool
) -> set[str]:
    """Apply a policy to the normalization layers outside the trainable parts.

    Running statistics of a batch norm that is not plain cannot be frozen; the log says
    which.

    Returns:
        Keys of all running statistics that will be updated.
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
            if reason := why_not_plain_norm(norm):
                moving |= statistics
                print_log(
                    f'the running statistics of {names[0]} are still updated: {reason}',
                    logger='current',
                    level=logging.WARNING,
                )
            else:
                frozen[norm] = FrozenBatchNorm(norm)
    replace_(model, frozen)
    return moving
