"""Optimizer constructor that leaves out no trainable parameter."""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.logging import MMLogger
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn
from torch.nn import Parameter

from mmir.adapters import undecayed

_OWN = {'no_decay': ['implicit'], 'layer_decay_rate': 1.0}
_HOST = (
    'custom_keys',
    'bias_lr_mult',
    'bias_decay_mult',
    'norm_decay_mult',
    'dwconv_decay_mult',
    'flat_decay_mult',
    'dcn_offset_lr_mult',
    'bypass_duplicate',
)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class CompleteOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Put every trainable parameter into exactly one group, with or without decay.

    These get no weight decay, unless `paramwise_cfg` explicitly says otherwise:

    - vectors and scalars (biases, normalization);
    - parameters whose names match `no_decay`;
    - parameters that adapter layers exempt (`AdapterLayer.no_decay`).

    Parameters with equal settings share a group.

    Args:
        optim_wrapper_cfg (dict): Optimizer wrapper with its `optimizer`.
        paramwise_cfg (dict, optional): All keys of mmengine's
            `DefaultOptimWrapperConstructor`, such as `custom_keys`, and

            - `no_decay` (list[str]): regular expressions for parameter names. Default:
              `['implicit']`.
            - `layer_decay_rate` (float): factor of the learning rate per layer below
              the last. The model or its backbone needs `get_layer_depth`.

    Raises:
        ValueError: Unknown key in `paramwise_cfg`, `no_decay` is a string, the model
            has no layer depths, or nothing is trainable.
    """

    def __init__(
        self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None
    ) -> None:
        unknown = set(paramwise_cfg or {}) - set(_OWN) - set(_HOST)
        if unknown:
            raise ValueError(
                f'unknown keys in paramwise_cfg: {sorted(unknown)}; '
                f'{type(self).__name__} knows {sorted([*_OWN, *_HOST])}'
            )
        options = _OWN | (paramwise_cfg or {})
        if isinstance(options['no_decay'], str):
            raise ValueError(f'no_decay is a list, write [{options["no_decay"]!r}]')
        super().__init__(optim_wrapper_cfg, options)

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs: Any
    ) -> None:
        """Append the groups of `module` to `params`.

        Args:
            params (list[dict]): Receives the groups.
            module (nn.Module): The whole model, or a submodule during the recursion of
                mmengine's constructor.
            prefix (str): Name of the submodule in the model.
            **kwargs: Arguments of mmengine's constructor.
        """
        if prefix:
            super().add_params(params, module, prefix, **kwargs)
            return
        single: list[dict] = []
        with _quiet():  # mmengine warns about every frozen parameter
            super().add_params(single, module, prefix, **kwargs)
        names = {id(p): name for name, p in module.named_parameters()}
        exempt, scale = undecayed(module), self._layer_scale(module)
        groups: dict[tuple, dict] = {}
        seen: set[int] = set()
        for group in single:
            parameter = group.pop('params')[0]
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            name = names[id(parameter)]
            self._settle(group, name, parameter, id(parameter) in exempt, scale(name))
            key = tuple(sorted((k, repr(v)) for k, v in group.items()))
            groups.setdefault(key, {'params': [], **group})['params'].append(parameter)
        params.extend(sorted(groups.values(), key=lambda g: g['name'] != 'decayed'))
        self._check(params, module)

    def _settle(
        self,
        group: dict,
        name: str,
        parameter: Parameter,
        exempt: bool,
        scale: float,
    ) -> None:
        """Complete the settings of one parameter's group, in place."""
        custom = any(key in name for key in self.paramwise_cfg.get('custom_keys', {}))
        said = 'decay_mult' in group if custom else 'weight_decay' in group
        patterns = self.paramwise_cfg['no_decay']
        spared = parameter.ndim < 2 or exempt
        spared |= any(re.search(pattern, name) for pattern in patterns)
        if spared and not said:
            group['weight_decay'] = 0.0
        if scale != 1.0:
            group['lr'] = group.get('lr', self.base_lr) * scale
        decays = group.get('weight_decay', self.base_wd) != 0
        group['name'] = 'decayed' if decays else 'not decayed'

    def _layer_scale(self, model: nn.Module) -> Callable[[str], float]:
        """Function from parameter name to factor of the learning rate."""
        rate = self.paramwise_cfg['layer_decay_rate']
        if rate == 1.0:
            return lambda name: 1.0
        owner, prefix = model, ''
        if not hasattr(model, 'get_layer_depth'):
            owner, prefix = getattr(model, 'backbone', None), 'backbone.'
        if not hasattr(owner, 'get_layer_depth'):
            raise ValueError(
                f'layer_decay_rate={rate}: neither {type(model).__name__} nor its '
                'backbone has get_layer_depth, so the layers have no order'
            )

        def scale(name: str) -> float:
            """The rate to the power of the number of layers above."""
            if not name.startswith(prefix):
                return 1.0
            depth, layers = owner.get_layer_depth(name, *([prefix] if prefix else []))
            return rate ** (layers - depth - 1)

        return scale

    @staticmethod
    def _check(groups: list[dict], module: nn.Module) -> None:
        """Raise unless each trainable parameter is in exactly one group."""
        listed = [id(p) for group in groups for p in group['params']]
        trainable = {id(p) for p in module.parameters() if p.requires_grad}
        if not trainable:
            raise ValueError(
                'no parameter of the model is trainable: everything is frozen, see '
                '`adapt.trainable`'
            )
        if len(listed) != len(set(listed)) or set(listed) != trainable:
            raise ValueError(
                'the optimizer groups do not hold every trainable parameter once: '
                f'{len(listed)} listed, {len(trainable)} trainable'
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Restrict mmengine's logger to errors."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
