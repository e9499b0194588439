"""Weights inside a checkpoint, wherever its author put them.

mmengine looks for `checkpoint['state_dict']` with the keys of the model. Others save
the bare state dict, put it under another name (`model`, `ema_state_dict`, `net`), or
save a wrapped model (DistributedDataParallel, `torch.compile`, an averaged model): its
keys all begin with the name of the wrapper.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

# What to take where a file holds several: the weights in use, then their average.
_PREFERRED = ('state_dict', 'model', 'model_state_dict', 'ema_state_dict', 'ema')
_COUNTERS = {'steps', 'n_averaged'}  # of averaged models, beside `module.`
_COMPILED = '_orig_mod.'


class BareWeights(OrderedDict):
    """State dict that is also its own `['state_dict']`.

    A checkpoint may be a bare state dict: mmengine accepts that everywhere but in
    `EMAHook`, which reads `checkpoint['state_dict']` without asking. `in` and iteration
    do not show the key, so all other code sees the bare state dict.
    """

    def __missing__(self, key: str) -> 'BareWeights':
        """Return itself for `state_dict`."""
        if key != 'state_dict':
            raise KeyError(key)
        return self

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Pickle and copy as the plain dict, so that any file loads without mmir."""
        plain = OrderedDict(self)
        plain.__dict__.update(self.__dict__)
        return plain.__reduce__()


def normalized(content: Any) -> Any:
    """Put the weights of a checkpoint where mmengine looks for them.

    Args:
        content: Content of a checkpoint file.

    Returns:
        For a state dict or a module: the bare state dict. For a dict that holds one:
        the same dict with the weights under `state_dict`. Keys lose the prefixes of
        wrappers. Any other content is returned as it is.
    """
    if isinstance(content, nn.Module):
        content = content.state_dict()
    if not isinstance(content, Mapping):
        return content
    if _is_state_dict(content):
        weights = _unwrapped(content)
        bare = BareWeights(weights)
        if metadata := getattr(weights, '_metadata', None):
            bare._metadata = metadata
        return bare
    found = {key: _state_of(value) for key, value in content.items()}
    found = {key: state for key, state in found.items() if state is not None}
    name = next((key for key in _PREFERRED if key in found), None)
    if name is None and len(found) == 1:
        (name,) = found
    if name is None or ('state_dict' in content and name != 'state_dict'):
        return content
    return {**content, 'state_dict': _unwrapped(found[name])}


def _state_of(value: Any) -> Mapping[str, Tensor] | None:
    """State dict of a module, or the value if it is one; else None."""
    if isinstance(value, nn.Module):
        return value.state_dict()
    return value if _is_state_dict(value) else None


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and any(isinstance(item, Tensor) for item in value.values())
        and all(
            isinstance(key, str)
            and (isinstance(item, Tensor) or key.endswith('_extra_state'))
            for key, item in value.items()
        )
    )


def _unwrapped(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Remove the prefixes of wrappers, also from the versions in `_metadata`."""
    if any(_COMPILED in key for key in state):
        state = _renamed(state, lambda key: key.replace(_COMPILED, ''))
    weights = state.keys() - _COUNTERS
    if weights and all(key.startswith('module.') for key in weights):
        state = _renamed(state, lambda key: key.removeprefix('module.'))
        for counter in _COUNTERS & state.keys():
            del state[counter]
        return _unwrapped(state)
    # A trainer of another framework holds the model as `self.model`; every model of the
    # family that has a backbone has it at the top.
    if all(key.startswith('model.') for key in state) and any(
        key.startswith('model.backbone.') for key in state
    ):
        return _renamed(state, lambda key: key.removeprefix('model.'))
    return state


def _renamed(
    state: Mapping[str, Tensor], rename: Callable[[str], str]
) -> OrderedDict[str, Tensor]:
    """Copy a state dict with new keys; values are shared."""
    result = OrderedDict((rename(key), value) for key, value in state.items())
    if metadata := getattr(state, '_metadata', None):
        # A wrapper comes before the module it wraps, which then replaces it.
        result._metadata = OrderedDict(
            (rename(f'{path}.').removesuffix('.'), version)
            for path, version in metadata.items()
        )
    return result
