"""Check whether a checkpoint fits a model before training starts from it."""

import copy
from collections import OrderedDict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .layer import AdapterLayer
from .walk import is_head, names_of


class CheckpointMismatchError(RuntimeError):
    """The tensors of a checkpoint do not match the model."""


def check_fits(model: nn.Module, state_dict: dict[str, Tensor], source: str) -> None:
    """Check that training can start from the weights of a checkpoint.

    - Heads may be missing, unexpected or of another size, as with another number of
      classes; they are trained from scratch.
    - Adapters may be missing; they start without effect.
    - Everything else must match exactly: in plain form, as factors, or in a form that
      its layer translates on load (a stem for RGB, a single backbone).

    Only names and shapes are compared; nothing is decomposed.

    Args:
        model (nn.Module): The model, not wrapped; not modified.
        state_dict (dict[str, Tensor]): Weights of the checkpoint.
        source (str): Name of the file, for messages.

    Raises:
        CheckpointMismatchError: Some tensors are missing, unexpected, of another shape,
            or hold NaN or infinite values. The message names them.
    """
    broken = [k for k, v in state_dict.items() if not torch.isfinite(v).all()]
    trial, shapes = _skeleton(model), {k: v.to('meta') for k, v in state_dict.items()}
    own = trial.state_dict()
    adapters, factors = _containers(trial), _factors(trial)
    # factors of another rank are left to their layer, whose message says more
    resized = [
        k
        for k, v in shapes.items()
        if k in own and own[k].shape != v.shape
        if not (k in factors or k.startswith(adapters) or _translated(trial, k, v))
    ]
    usable = {k: v for k, v in shapes.items() if k not in {*broken, *resized}}
    if metadata := getattr(state_dict, '_metadata', None):
        usable = _with_metadata(usable, metadata)
    try:
        result = trial.load_state_dict(usable, strict=False)
    except (ValueError, RuntimeError) as error:  # a layer refuses: rank, shape
        raise CheckpointMismatchError(f'{source}: {error}') from error
    seen = {*resized, *broken}
    missing = [k for k in result.missing_keys if k not in seen]
    faults = {
        'hold NaN or infinite values': broken,
        'have another shape in the model': _body(resized),
        'are missing': _body(k for k in missing if not k.startswith(adapters)),
        'are not in the model': _body(result.unexpected_keys),
    }
    lines = [f'  {len(k)} {what}: {_few(k)}' for what, k in faults.items() if k]
    if lines:
        raise CheckpointMismatchError(
            '\n'.join([f'{source} does not fit the model:', *lines])
            + _prefix_hint(state_dict, own)
            + '\nOnly heads may differ. Is this the checkpoint of the network in the '
            'config (size, rank, host)? --allow-partial loads what fits.'
        )


def _skeleton(model: nn.Module) -> nn.Module:
    """Copy a model to the meta device: everything but the values."""
    memo: dict[int, object] = {}
    for parameter in model.parameters():
        empty = torch.empty_like(parameter, device='meta')
        memo[id(parameter)] = nn.Parameter(empty, parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device='meta')
    for module in model.modules():
        for value in vars(module).values():  # weight norm: results cannot be copied
            if isinstance(value, Tensor):
                memo[id(value)] = torch.empty_like(value, device='meta')
    return copy.deepcopy(model, memo)


def _factors(model: nn.Module) -> set[str]:
    """Keys of the parameters that derived tensors are computed from."""
    return {
        f'{name}.{key}'.lstrip('.')
        for layer, names in names_of(model, AdapterLayer)
        for name in names
        for parts in layer.derived.values()
        for key in parts
    }


def _containers(model: nn.Module) -> tuple[str, ...]:
    """Prefixes of the keys of all adapters."""
    return tuple(
        f'{name}.{layer.container}.'.lstrip('.')
        for layer, names in names_of(model, AdapterLayer)
        for name in names
    )


def _with_metadata(state: dict[str, Tensor], metadata: dict) -> dict[str, Tensor]:
    """Attach the `_metadata` of a state dict, as torch stores it."""
    result = OrderedDict(state)
    result._metadata = metadata
    return result


def _translated(model: nn.Module, key: str, value: Tensor) -> bool:
    """Check whether the layer a tensor belongs to accepts it in this shape."""
    owner, _, name = key.rpartition('.')
    try:
        model.get_submodule(owner).load_state_dict({name: value}, strict=False)
    except (RuntimeError, ValueError):  # factors raise ValueError
        return False
    return True


def _prefix_hint(state_dict: Iterable[str], own: Iterable[str]) -> str:
    """Advice for weights whose keys all have a prefix that the model does not know."""
    prefixes = {key.partition('.')[0] for key in state_dict}
    if len(prefixes) != 1 or prefixes & {key.partition('.')[0] for key in own}:
        return ''
    prefix = f'{prefixes.pop()}.'
    return (
        f'\nAll its keys begin with {prefix!r}. If the rest is the name in the model, '
        f'save it without: '
        f'{{k.removeprefix({prefix!r}): v for k, v in weights.items()}}'
    )


def _body(keys: Iterable[str]) -> list[str]:
    """Keys outside the heads; `num_batches_tracked` of batch norms does not matter."""
    return [k for k in keys if not is_head(k) and 'num_batches_tracked' not in k]


def _few(keys: list[str]) -> str:
    """Join the first names of a list."""
    return ', '.join(keys[:3]) + (', ...' if len(keys) > 3 else '')
