"""Whether a checkpoint fits a model, before a training starts from it."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mmir.layers.walk import is_head


class CheckpointMismatchError(RuntimeError):
    """The tensors of a checkpoint are not those the model asks for."""


def check_fits(model: nn.Module, state_dict: dict[str, Tensor], source: str) -> None:
    """Check that a training can start from the weights of a checkpoint.

    Heads may be missing, foreign or of another size: another number of classes makes
    them so, and they are trained anew. Deltas may be missing: they start at zero. All
    else must be there, in dense form, as factors, or in another form that its layer
    translates as it loads (a stem for colours, a single backbone), and nothing else.

    Args:
        model (nn.Module): The model, not wrapped; it is not changed.
        state_dict (dict[str, Tensor]): Weights of the checkpoint.
        source (str): Name of the file, for messages.

    Raises:
        CheckpointMismatchError: Naming tensors that are missing, foreign, of another
            shape, or hold NaN or infinite values.
    """
    broken = [k for k, v in state_dict.items() if not torch.isfinite(v).all()]
    trial = copy.deepcopy(model)
    own = trial.state_dict()
    # factors of another rank are left to their layer, which says more
    resized = [
        k
        for k, v in state_dict.items()
        if k in own and own[k].shape != v.shape and not k.endswith(('.A', '.B'))
        if not _translated(trial, k, v)
    ]
    usable = {k: v for k, v in state_dict.items() if k not in {*broken, *resized}}
    try:
        result = trial.load_state_dict(usable, strict=False)
    except (ValueError, RuntimeError) as error:  # a layer refuses: rank, shape
        raise CheckpointMismatchError(f'{source}: {error}') from error
    seen = {*resized, *broken}
    missing = [k for k in result.missing_keys if k not in seen]
    faults = {
        'hold NaN or infinite values': broken,
        'have another shape in the model': _body(resized),
        'are missing': _body(k for k in missing if '.deltas.' not in k),
        'are foreign to the model': _body(result.unexpected_keys),
    }
    lines = [f'  {len(k)} {what}: {_few(k)}' for what, k in faults.items() if k]
    if lines:
        raise CheckpointMismatchError(
            '\n'.join([f'{source} does not fit the model:', *lines])
            + '\nOnly heads may differ. Is this the checkpoint of the network in the '
            'config (size, rank, host)? --allow-partial loads what fits.'
        )


def _translated(model: nn.Module, key: str, value: Tensor) -> bool:
    """Whether the layer a tensor belongs to takes it in this shape."""
    owner, _, name = key.rpartition('.')
    try:
        model.get_submodule(owner).load_state_dict({name: value}, strict=False)
    except (RuntimeError, ValueError):  # factors refuse by ValueError
        return False
    return True


def _body(keys: Iterable[str]) -> list[str]:
    """Keys outside of heads; counters of batch norms do not matter."""
    return [k for k in keys if not is_head(k) and 'num_batches_tracked' not in k]


def _few(keys: list[str]) -> str:
    """The first names of a list."""
    return ', '.join(keys[:3]) + (', ...' if len(keys) > 3 else '')
