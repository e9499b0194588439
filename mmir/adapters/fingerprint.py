"""Fingerprint of the frozen part of a model, tolerant to rounding."""

import re
from collections.abc import Collection

import torch
from torch import Tensor, nn

from .layer import AdapterLayer
from .walk import names_of

Fingerprint = dict[str, list]

# Factors of the same dense kernel computed on two machines differ by about 1e-7; one
# training step changes them far more.
_TOLERANCE = 1e-5

# Rotary tables of EVA-02, which the host computes anew for each size of image.
_PER_IMAGE = re.compile(r'(^|\.)rope\.freqs_(cos|sin)$')


def _sketch(tensor: Tensor) -> list[float]:
    """Norm of a tensor, and its dot product with a fixed vector of mixed signs."""
    values = tensor.detach().to('cpu', torch.float64).flatten()
    fixed = torch.arange(values.numel(), dtype=torch.float64).cos_()
    return [values.norm().item(), (values @ fixed).item()]


def fingerprint(model: nn.Module, changed: Collection[str]) -> Fingerprint:
    """Fingerprint every tensor of a model that a stage does not change.

    Each adapter layer declares the tensors that identify its base. Factors, for
    example, are identified by their product, because one kernel has many
    factorizations. Adapters that are switched off are ignored.

    Args:
        model: Model, not wrapped.
        changed: Keys of the state dict to leave out.

    Returns:
        Shape, note (see `AdapterLayer.base_tensors`), norm and sketch by key. Plain
        types only.
    """
    state, notes = dict(model.state_dict()), {}
    for layer, names in names_of(model, AdapterLayer):
        own, base = set(layer.state_dict()), layer.base_tensors()
        for name in names:  # as in the state dict of the plain model
            for key in own:
                state.pop(f'{name}.{key}'.lstrip('.'), None)
            for key, (tensor, note) in base.items():
                made_of = layer.derived.get(key, ())
                if not any(f'{name}.{k}'.lstrip('.') in changed for k in made_of):
                    state[f'{name}.{key}'.lstrip('.')] = tensor
                    notes[f'{name}.{key}'.lstrip('.')] = note
    return {
        key: [list(tensor.shape), notes.get(key, ''), *_sketch(tensor)]
        for key, tensor in state.items()
        if isinstance(tensor, Tensor)
        and key not in changed
        and not _PER_IMAGE.search(key)
    }


def check_same_base(
    expected: Fingerprint, model: nn.Module, changed: Collection[str]
) -> None:
    """Compare a model with the base an adapter was trained on.

    Args:
        expected: Fingerprint of that base.
        model: Model to load the adapter into.
        changed: Keys of the state dict that the adapter provides.

    Raises:
        ValueError: They differ; the message says where.
    """
    found = fingerprint(model, changed)
    problems = [f'{key} is missing in the model' for key in expected.keys() - found]
    problems += [f'{key} is unknown to the adapter' for key in found.keys() - expected]
    for key in (k for k in expected if k in found):
        (shape, note, norm, product), (shape2, note2, norm2, product2) = (
            expected[key],
            found[key],
        )
        if shape != shape2:
            problems.append(f'{key} has shape {shape2}, not {shape}')
        elif note != note2:
            problems.append(f'{key} has {note2 or "another form"}, not {note}')
        elif not max(abs(norm - norm2), abs(product - product2)) <= _TOLERANCE * norm:
            problems.append(f'{key} has other values')
    if problems:
        more = f' and {len(problems) - 5} more' if len(problems) > 5 else ''
        raise ValueError(
            'the adapter was trained on another model: '
            f'{"; ".join(sorted(problems)[:5])}{more}'
        )
