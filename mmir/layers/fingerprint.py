"""Fingerprints of the frozen part of a model, tolerant to rounding."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from .split import get_split
from .tensorfact import TensorFactConv
from .walk import names_of

Fingerprint = dict[str, list]

# Factors of the same dense kernel made on two machines differ by about 1e-7, one step
# of training by far more.
_TOLERANCE = 1e-5


def _sketch(tensor: Tensor) -> list[float]:
    """Norm of a tensor, and its product with a fixed vector of mixed signs."""
    values = tensor.detach().to('cpu', torch.float64).flatten()
    fixed = torch.arange(values.numel(), dtype=torch.float64).cos_()
    return [values.norm().item(), (values @ fixed).item()]


def fingerprint(model: nn.Module, changed: Collection[str]) -> Fingerprint:
    """Describe every tensor of a model that a stage does not change.

    Factors are described by their product, since the same kernel has many. Deltas
    that are switched off do not count.

    Args:
        model: Model, not wrapped.
        changed: Keys of the state dict to leave out.

    Returns:
        By key (or layer and `.kernel`): shape, rank (0 if not factorised), norm and
        sketch. Plain types only.
    """
    state = dict(model.state_dict())
    result: Fingerprint = {}
    for key in changed:
        state.pop(key, None)
    for layer, names in names_of(model, TensorFactConv):
        factors = [state.pop(f'{name}.{k}', None) for name in names for k in 'AB']
        off = [key for key, delta in layer.deltas.items() if not delta.enabled]
        for key in [f'{n}.deltas.{d}.{k}' for n in names for d in off for k in 'AB']:
            state.pop(key, None)
        if None not in factors:
            a, b = (f.detach().cpu().double() for f in factors[:2])
            kernel = get_split(layer.split).fold([(a, b)])
            result[f'{names[0]}.kernel'] = [
                list(kernel.shape),
                layer.rank,
                *_sketch(kernel),
            ]
    for key, tensor in state.items():
        if isinstance(tensor, Tensor):
            result[key] = [list(tensor.shape), 0, *_sketch(tensor)]
    return result


def check_same_base(
    expected: Fingerprint, model: nn.Module, changed: Collection[str]
) -> None:
    """Compare a model with the base a delta was trained on.

    Args:
        expected: Fingerprint of that base.
        model: Model the delta shall be loaded into.
        changed: Keys of the state dict which the delta brings.

    Raises:
        ValueError: If they differ, naming what.
    """
    found = fingerprint(model, changed)
    problems = [f'{key} is missing in the model' for key in expected.keys() - found]
    problems += [f'{key} is unknown to the delta' for key in found.keys() - expected]
    for key in (k for k in expected if k in found):
        (shape, rank, norm, product), (shape2, rank2, norm2, product2) = (
            expected[key],
            found[key],
        )
        if shape != shape2:
            problems.append(f'{key} has shape {shape2}, not {shape}')
        elif rank != rank2:
            problems.append(f'{key} has rank {rank2}, not {rank}')
        elif not max(abs(norm - norm2), abs(product - product2)) <= _TOLERANCE * norm:
            problems.append(f'{key} has other values')
    if problems:
        more = f' and {len(problems) - 5} more' if len(problems) > 5 else ''
        raise ValueError(
            'the delta was trained on another model: '
            f'{"; ".join(sorted(problems)[:5])}{more}'
        )
