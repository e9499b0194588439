"""Read the dense kernels of a model's layers from a checkpoint."""

import os
from collections import Counter
from collections.abc import Mapping

from torch import Tensor

from mmir.utils.checkpoint import load_checkpoint, weights_of

from .split import KernelShape

Checkpoint = str | os.PathLike | Mapping[str, Tensor]


def dense_kernels(
    checkpoint: Checkpoint, shapes: Mapping[str, KernelShape]
) -> dict[str, Tensor]:
    """Read the kernels of the given convolutions.

    Args:
        checkpoint: File (which may hold only tensors and plain types) or its content: a
            state dict, or a dict with the key `state_dict`. All keys may have a common
            prefix, such as `module.`.
        shapes: Kernel shape (T, S, D2, D1) by layer name.

    Returns:
        Kernels by layer name, in the order of `shapes`.

    Raises:
        FileNotFoundError: The file does not exist.
        RuntimeError: The file is damaged or could run code, see `load_checkpoint`.
        ValueError: Kernels are missing or have another shape; names them.
    """
    if isinstance(checkpoint, Mapping):
        where, content = 'the state dict', checkpoint
    else:
        where, content = f'checkpoint {checkpoint}', load_checkpoint(checkpoint)
    state = weights_of(content, where)
    keys = {name: f'{name}.weight'.lstrip('.') for name in shapes}
    prefix = _common_prefix(state, list(keys.values()))
    missing = [key for key in keys.values() if prefix + key not in state]
    if missing:
        factors = {f'{prefix}{key.removesuffix("weight")}A' for key in missing}
        hint = '; it holds factors: run merge_checkpoint on it first'
        raise ValueError(
            f'{where} lacks {len(missing)} of {len(keys)} dense kernels: '
            f'{", ".join(missing[:5])}{", ..." if len(missing) > 5 else ""}'
            f'{hint if factors & state.keys() else ""}'
        )
    kernels = {name: state[prefix + key] for name, key in keys.items()}
    for name, kernel in kernels.items():
        if tuple(kernel.shape) != tuple(shapes[name]):
            raise ValueError(
                f'{where}: {prefix}{keys[name]} has shape {tuple(kernel.shape)}, the '
                f'model {tuple(shapes[name])}'
            )
    return kernels


def _common_prefix(state: Mapping[str, Tensor], keys: list[str]) -> str:
    """Prefix that most of the keys have; the shortest if there are several."""
    counts = Counter({'': sum(key in state for key in keys)})
    for found in state:
        for key in keys:
            if found.endswith(f'.{key}'):
                counts[found.removesuffix(key)] += 1
    return max(counts, key=lambda prefix: (counts[prefix], -len(prefix)))
