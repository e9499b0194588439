"""Checkpoints that keep factors instead of kernels: smaller files, same network.

The kernels are built again when the file is read, so the network is the plain dense
one and costs nothing at run time. `load_from='factors://PATH'` reads such a file
wherever mmengine reads a checkpoint.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn
from torch.nn.utils import skip_init

from mmir.utils.checkpoint import load_checkpoint, save_checkpoint_atomic

from .factorize import factorize_
from .merge_checkpoint import SPLIT_KEY, merge_state_dict
from .rank import Rank
from .tensorfact import TensorFactConv

SCHEME = 'factors://'
"""Prefix of a path by which mmengine reads factors as kernels."""


@dataclass(frozen=True)
class AtRestReport:
    """What became factors in a state dict.

    Attributes:
        ranks: Rank of each factorised kernel, by the name of its layer.
        skipped: Why another kernel was kept, by the name of its layer.
        errors: Relative error of each rebuilt kernel, ||K - A B|| / ||K||.
        numbers_before: Elements of all tensors before, buffers included.
        numbers_after: Elements of all tensors afterwards.
    """

    ranks: dict[str, int]
    skipped: dict[str, str]
    errors: dict[str, float]
    numbers_before: int
    numbers_after: int

    @property
    def worst(self) -> tuple[str, float]:
        """Layer with the largest error of its kernel, and that error."""
        name = max(self.errors, key=self.errors.__getitem__)
        return name, self.errors[name]

    def __str__(self) -> str:
        name, error = self.worst
        return (
            f'{len(self.ranks)} kernels kept as factors, {self.numbers_before:,} -> '
            f'{self.numbers_after:,} numbers; largest relative error of a kernel '
            f'{error:.4f} ({name})'
        )


def factor_state_dict(
    state_dict: Mapping[str, Tensor], rank: Rank, split: str = 'ts_dd', **options: Any
) -> tuple[dict[str, Tensor], AtRestReport]:
    """Replace the kernels of a dense state dict by factors.

    Which kernels and at which rank is decided as by `factorize_`; a kernel with one
    input channel counts as depthwise. Every four-dimensional `weight` counts, so the
    kernel of a transposed convolution does, too: it is rebuilt like the others.

    Args:
        state_dict: Weights of a dense model.
        rank: Rank rule of `factorize_`, such as 4 or `dict(energy=0.99)`.
        split: How kernels become matrices, see `SPLITS`.
        **options: `include`, `exclude`, `sigma` and others of `factorize_`.

    Returns:
        The state dict, with `X.A` and `X.B` in the place of `X.weight`, for
        `merge_state_dict`; and what was done. Other entries are the same tensors.

    Raises:
        ValueError: If there is nothing to factorise (with the reasons), there are
            factors already, or for a wrong option or weights that are not finite.
    """
    for key in state_dict:
        if key.endswith('.A') and f'{key[:-1]}B' in state_dict:
            raise ValueError(f'{key[:-2]} has factors already: merge them first')
    net = _kernels_of(state_dict)
    found = factorize_(net, rank, split, **options)
    layers = {
        name: layer
        for name, layer in net.named_modules(remove_duplicate=False)
        if isinstance(layer, TensorFactConv)
    }
    result: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        name, _, kind = key.rpartition('.')
        if kind == 'weight' and name in layers:
            result[f'{name}.A'] = layers[name].A.detach()
            result[f'{name}.B'] = layers[name].B.detach()
        else:
            result[key] = value
    errors = {
        name: _error(layer, state_dict[f'{name}.weight'])
        for name, layer in layers.items()
    }
    ranks = {name: layer.rank for name, layer in layers.items()}
    counts = (_numbers(state_dict), _numbers(result))
    return result, AtRestReport(ranks, found.skipped, errors, *counts)


def _kernels_of(state_dict: Mapping[str, Tensor]) -> nn.Module:
    """A module with a bare convolution for every kernel, under its layer's name."""
    net, shared = nn.Module(), {}
    for key, value in state_dict.items():
        name, _, kind = key.rpartition('.')
        if kind != 'weight' or not name or not isinstance(value, Tensor):
            continue
        if value.ndim == 4 and value.is_floating_point():
            # Tied weights are one tensor in the file, and stay one.
            same = (value.data_ptr(), value.dtype, value.shape, value.stride())
            if same not in shared:
                shared[same] = _conv_around(value)
            # Straight into the dictionary, because a dotted name is refused.
            net._modules[name] = shared[same]
    return net


def _conv_around(kernel: Tensor) -> nn.Conv2d:
    """A convolution that has `kernel` (T, S, D2, D1) as its weight, not a copy."""
    out_channels, in_channels, *window = kernel.shape
    groups = out_channels if in_channels == 1 else 1
    conv = skip_init(
        nn.Conv2d,
        in_channels * groups,
        out_channels,
        tuple(window),
        groups=groups,
        bias=False,
        device='meta',
    )
    conv.weight = nn.Parameter(kernel, requires_grad=False)
    return conv


@torch.no_grad()
def _error(layer: TensorFactConv, kernel: Tensor) -> float:
    """Relative error of the kernel that comes back, in the dtype of the file."""
    kernel = kernel.double()
    rest = (layer.kernel().double() - kernel).norm()
    return (rest / kernel.norm().clamp(min=1e-300)).item()


def _numbers(state_dict: Mapping[str, Tensor]) -> int:
    """Elements of all tensors of a state dict; tied tensors count once."""
    tensors = [t for t in state_dict.values() if isinstance(t, Tensor)]
    return sum({(t.data_ptr(), t.shape): t.numel() for t in tensors}.values())


def factor_checkpoint(
    source: str | os.PathLike,
    target: str | os.PathLike,
    rank: Rank,
    split: str = 'ts_dd',
    *,
    trust: bool = False,
    **options: Any,
) -> AtRestReport:
    """Write a dense checkpoint with factors for kernels.

    `merge_checkpoint` makes a dense file of it again; `factors://PATH` and
    `dense_state_dict` read it as a dense one. A model built by `mmir.factorized` with
    this rank and split loads it as it is.

    Args:
        source: Dense checkpoint.
        target: File to write: `meta`, with the split, and `state_dict`, no optimizer.
        rank: See `factor_state_dict`.
        split: See `factor_state_dict`.
        trust: Whether the source may hold more than tensors and plain types.
        **options: See `factor_state_dict`.

    Returns:
        What was done.

    Raises:
        ValueError: See `factor_state_dict`; nothing is written then.
        CheckpointError: The source cannot be read, or not without running code.
    """
    checkpoint = load_checkpoint(source, trust=trust)
    state = checkpoint.get('state_dict', checkpoint)
    state, report = factor_state_dict(state, rank, split, **options)
    meta = {**checkpoint.get('meta', {}), SPLIT_KEY: split}
    save_checkpoint_atomic(dict(meta=meta, state_dict=state), target)
    return report


def dense_state_dict(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The dense weights of a checkpoint with factors, or of a dense one.

    Args:
        checkpoint: What `load_checkpoint` returned: a state dict, or `state_dict`
            and, perhaps, `meta` with the split.
    """
    split = checkpoint.get('meta', {}).get(SPLIT_KEY, 'ts_dd')
    return merge_state_dict(dict(checkpoint.get('state_dict', checkpoint)), split)


@CheckpointLoader.register_scheme(prefixes=SCHEME)
def load_from_factors(
    filename: str, map_location: str | torch.device | None = None
) -> dict[str, Any]:
    """Read a checkpoint with factors as the dense one; mmengine calls it.

    Args:
        filename: A local path after `factors://`.
        map_location: Device of the tensors, None for the CPU.

    Returns:
        `meta` and the dense `state_dict`.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: It cannot be read, or not without running code.
    """
    path = filename.removeprefix(SCHEME)
    checkpoint = load_checkpoint(path, map_location=map_location or 'cpu')
    meta = {k: v for k, v in checkpoint.get('meta', {}).items() if k != SPLIT_KEY}
    return dict(meta=meta, state_dict=dense_state_dict(checkpoint))
