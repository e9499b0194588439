"""Optimizer groups that miss no parameter."""

import re

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn
from torch.nn import Parameter


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class CompleteOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Put every trainable parameter in exactly one of two groups: decayed or not.

    Walking the parameters, rather than attributes called `weight` and `bias`, cannot
    miss the factors of a `TensorFactConv` or the vector of an implicit layer. Not
    decayed are vectors and scalars (biases, normalisation), names that match
    `no_decay`, and the spatial atoms B of factorised convolutions unless asked for.

    Args:
        optim_wrapper_cfg (dict): Optimizer wrapper with its `optimizer`.
        paramwise_cfg (dict, optional): `no_decay` (list[str]), regular expressions
            searched in parameter names, `['implicit']` when not given; `decay_atoms`
            (bool), False when not given.

    Raises:
        ValueError: Unknown key in `paramwise_cfg`, `no_decay` is a string, or
            nothing is trainable.
    """

    def __init__(
        self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None
    ) -> None:
        options = {'no_decay': ['implicit'], 'decay_atoms': False}
        unknown = set(paramwise_cfg or {}) - set(options)
        if unknown:
            raise ValueError(
                f'unknown keys in paramwise_cfg: {sorted(unknown)}; '
                f'{type(self).__name__} knows {sorted(options)}'
            )
        options |= paramwise_cfg or {}
        if isinstance(options['no_decay'], str):
            raise ValueError(f'no_decay is a list, write [{options["no_decay"]!r}]')
        super().__init__(optim_wrapper_cfg, options)

    def add_params(self, params: list[dict], module: nn.Module, **kwargs: str) -> None:
        """Append the groups of `module` to `params`; empty groups are left out.

        Args:
            params (list[dict]): Receives `params`, `weight_decay` and `name` a group.
            module (nn.Module): The whole model.
            **kwargs: Where a host's constructor says where in the model it is.
        """
        decayed, spared = [], []
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                decay = self._is_decayed(name, parameter)
                (decayed if decay else spared).append(parameter)
        groups = [
            dict(params=decayed, name='decayed'),
            dict(params=spared, name='not decayed', weight_decay=0.0),
        ]
        params.extend(group for group in groups if group['params'])
        self._check(params, module)

    def _is_decayed(self, name: str, parameter: Parameter) -> bool:
        if parameter.ndim < 2:
            return False
        if name.rpartition('.')[2] == 'B' and not self.paramwise_cfg['decay_atoms']:
            return False
        return not any(re.search(p, name) for p in self.paramwise_cfg['no_decay'])

    @staticmethod
    def _check(groups: list[dict], module: nn.Module) -> None:
        """Raise unless each trainable parameter stands in one group, once."""
        listed = [id(p) for group in groups for p in group['params']]
        trainable = {id(p) for p in module.parameters() if p.requires_grad}
        if not trainable:
            raise ValueError(
                'no parameter of the model is trainable: everything is frozen, '
                'check `frozen_stages`, `factorize.trainable` and `factorize.delta`'
            )
        if len(listed) != len(set(listed)) or set(listed) != trainable:
            raise ValueError(
                'the optimizer groups do not hold every trainable parameter once: '
                f'{len(listed)} listed, {len(trainable)} trainable'
            )
