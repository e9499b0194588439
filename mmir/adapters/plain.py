"""Which layers are plain, so that weight and bias say all, and why others are not."""

from collections import defaultdict

import torch
from mmcv.cnn.bricks.wrappers import Conv2d as MMCVConv2d
from mmcv.cnn.bricks.wrappers import Linear as MMCVLinear
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

PLAIN_CONVS = (nn.Conv2d, MMCVConv2d)
"""Exact types of plain 2D convolutions: torch's, and mmcv's wrapper of it.

Test with `why_not_plain(module)`: other subclasses may override `forward`, and the
kernel of a convolution of this type may be computed by a hook.
"""

PLAIN_LINEARS = (nn.Linear, MMCVLinear)
"""Exact types of plain linear layers, see `PLAIN_CONVS`.

The output projection of `nn.MultiheadAttention` is not one: its `forward` is never
called.
"""

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def why_not_plain(
    module: nn.Module,
    types: tuple[type[nn.Module], ...] = PLAIN_CONVS,
    rebuilt: bool = False,
) -> str | None:
    """Reason why a layer is not plain.

    The tensors of a plain layer are real floating-point parameters, and only its class
    says what is done with them. So weight norm, spectral norm, pruning and other
    parametrizations, a `forward` of its own, complex, quantized and uninitialized
    tensors are reasons.

    Args:
        module: The layer.
        types: Exact types of plain layers.
        rebuilt: Whether the layer will be replaced by a new one made of its weight and
            bias. Hooks and further tensors would then be lost.

    Returns:
        The reason, such as `'its weight is computed by WeightNorm'`; None for a plain
        layer.
    """
    if parametrize.is_parametrized(module):
        return _why_computed(module)
    if type(module) not in types:
        torchs = 'nn.' if types[0].__module__.startswith('torch.nn.') else ''
        return f'{type(module).__name__} is not a plain {torchs}{types[0].__name__}'
    if own := {'forward', '_conv_forward'} & vars(module).keys():
        return f'its {min(own)} was replaced'
    reason = _why_computed(module) or _why_unusual(module)
    if rebuilt:
        reason = reason or _why_more(module) or why_hooked(module)
    return reason


def why_not_plain_norm(norm: nn.Module) -> str | None:
    """Reason why a batch norm is not plain, see `why_not_plain`.

    Batch norms have many subclasses, most of which change only checks or the type.
    They are recognized by their `forward`; those with an activation have another one.
    """
    if type(norm).forward not in (_BatchNorm.forward, nn.SyncBatchNorm.forward):
        return f'{type(norm).__name__} has a forward of its own'
    return why_not_plain(norm, (type(norm),))


def why_hooked(module: nn.Module) -> str | None:
    """Reason to keep a module: its hooks, or those on gradients of its parameters."""
    for table, hooks in vars(module).items():
        if table.endswith('_hooks') and hooks:
            return f'has a {table.strip("_").removesuffix("s").replace("_", " ")}'
    for name, tensor in module.named_parameters(recurse=False):
        if tensor._backward_hooks or tensor._post_accumulate_grad_hooks:
            return f'has a hook on the gradient of its {name}'
    return None


def why_tied(model: nn.Module) -> dict[nn.Module, str]:
    """Modules with a parameter that another module has, too.

    A change of one of them would break the tie, and a state dict of the result would
    not load into the original network. One module with several names is not tied.

    Args:
        model: Any model.

    Returns:
        Module -> reason, such as `'shares its weight with decoder.conv'`.
    """
    owners = defaultdict(list)
    for where, module in model.named_modules():
        for name, tensor in module.named_parameters(recurse=False):
            owners[_place(tensor)].append((module, name, where))
    tied = {}
    for owner in owners.values():
        for module, name, _ in owner:
            others = [where for other, _, where in owner if other is not module]
            if others:
                whose = others[0] or 'the model itself'
                tied.setdefault(module, f'shares its {name} with {whose}')
    return tied


def moving_buffers(model: nn.Module) -> set[str]:
    """State dict keys of buffers that computed tensors may change in training.

    Spectral norm, for example, improves its vectors in every forward pass.
    """
    keys = set()
    for name, module in model.named_modules(remove_duplicate=False):
        if parametrize.is_parametrized(module):
            below, name = module.parametrizations, f'{name}.parametrizations'
            own = [key for key, _ in below.named_buffers()]
        elif module._forward_pre_hooks and _why_computed(module):
            own = [key for key, _ in module.named_buffers(recurse=False)]
        else:
            continue
        keys |= {f'{name}.{key}'.lstrip('.') for key in own}
    return keys


def _place(tensor: Tensor) -> int:
    """Memory of a tensor, which a second parameter may share; else its identity."""
    unknown = is_lazy(tensor) or tensor.is_meta or type(tensor) is not nn.Parameter
    return (0 if unknown else tensor.data_ptr()) or id(tensor)


def _why_computed(module: nn.Module) -> str | None:
    """A parametrization, or a hook that sets a plain attribute as old ones do."""
    if parametrize.is_parametrized(module):
        name, steps = next(iter(module.parametrizations.items()))
        return f'its {name} is computed by {type(steps[0]).__name__}'
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            hooks = module._forward_pre_hooks.values()
            makers = [type(hook).__name__ for hook in hooks]
            return f'its {name} is computed' + (f' by {makers[-1]}' if makers else '')
    return None


def _why_unusual(module: nn.Module) -> str | None:
    """A parameter that is uninitialized, no real floating-point one, or sharded."""
    for name, tensor in module.named_parameters(recurse=False):
        if is_lazy(tensor):
            return f'its {name} is not initialized yet'
        if tensor.dtype not in _FLOATS:
            return f'its {name} is {str(tensor.dtype).removeprefix("torch.")}'
        if type(tensor) is not nn.Parameter:
            return f'its {name} is a {type(tensor).__name__}'
    return None


def _why_more(module: nn.Module) -> str | None:
    """Tensors and modules that a new layer would not have."""
    tables = module._parameters, module._buffers, module._modules
    more = [name for table in tables for name in table]
    more = [name for name in more if name not in ('weight', 'bias')]
    return f'has {", ".join(more)} beside weight and bias' if more else None
