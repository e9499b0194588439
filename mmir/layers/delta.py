"""Deltas as files of their own: save, load, switch off and on, unload."""

import os
import pickle
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .fingerprint import check_same_base, fingerprint
from .freeze import stage_of
from .split import get_split
from .tensorfact import TensorFactConv
from .walk import names_of, unwrap

FORMAT = 'mmir-delta-1'
DeltaState = dict[str, Any]


@dataclass
class LoadedDelta:
    """A delta that was loaded on top of a model; kept on the model.

    Attributes:
        layers: Names of the layers it widens.
        others: Tensors that take turns with those in the model, by key: the former
            ones while the delta is on, those of the delta while it is off.
        on: Whether the delta is on.
    """

    layers: list[str]
    others: dict[str, Tensor]
    on: bool = True


def _layers(model: nn.Module) -> dict[str, TensorFactConv]:
    return {names[0]: layer for layer, names in names_of(model, TensorFactConv)}


def _check_finite(tensors: dict[str, Tensor]) -> None:
    for key, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(f'{key} of the delta holds NaN or infinite values')


def delta_state_dict(
    model: nn.Module, values: dict[str, Tensor] | None = None
) -> DeltaState:
    """Everything the current stage changes in a model, and nothing else.

    Args:
        model: Model after `freeze_base_` (or built with a delta), may be wrapped.
        values: State dict of the same model to take the tensors from, for example a
            moving average of the weights; the model's own when not given.

    Returns:
        `state_dict`: the deltas, the other trainable parameters and the updated
        statistics by their keys in the model, copies on the CPU. `meta`: the format,
        the name, the rank of each delta by layer, and a fingerprint of the rest of
        the model. Tensors and plain types only.

    Raises:
        ValueError: If the model is in no stage, or for NaN or infinite values.
    """
    model = unwrap(model)
    stage, state = stage_of(model), values or model.state_dict()
    # Keyed by place, so that a module with several names stands in the file once.
    copies: dict[tuple, Tensor] = {}
    tensors = {}
    for key in stage.changed:
        place = state[key].data_ptr(), state[key].shape
        if place not in copies:
            copies[place] = state[key].detach().clone().cpu()
        tensors[key] = copies[place]
    _check_finite(tensors)
    ranks = {
        name: layer.deltas[stage.name].rank
        for name, layer in _layers(model).items()
        if stage.name in layer.deltas
    }
    meta = {
        'format': FORMAT,
        'name': stage.name,
        'ranks': ranks,
        'base': fingerprint(model, stage.changed),
    }
    return {'meta': meta, 'state_dict': tensors}


def load_delta_state_dict(model: nn.Module, delta: DeltaState) -> None:
    """Put a delta on the model it was trained on, in place.

    The output becomes that of the trained model, bit for bit. The former tensors of
    whatever trained beside the deltas (head, batch norms) are kept on the model, out
    of its state dict, so that `switch_delta_` and `unload_delta` can restore them.
    Deltas the model does not have yet are added, frozen.

    Args:
        model: The base model, factorised at the same ranks; may be wrapped.
        delta: Result of `delta_state_dict`.

    Raises:
        ValueError: If this is no delta, was loaded before, belongs to another model
            (naming what differs) or holds NaN. The model is unchanged then.
    """
    model = unwrap(model)
    try:
        meta, tensors = delta['meta'], dict(delta['state_dict'])
        name, ranks, base = meta['name'], meta['ranks'], meta['base']
        known = meta['format'] == FORMAT
    except (KeyError, TypeError) as error:
        raise ValueError(f'not the result of delta_state_dict: no {error}') from error
    if not known:
        raise ValueError(f'unknown format {meta["format"]!r} of a delta, not {FORMAT}')
    loaded = model.__dict__.setdefault('_mmir_loaded', {})
    if name in loaded:
        raise ValueError(f'delta {name!r} is loaded already, unload_delta it first')
    check_same_base(base, model, tensors)
    _check_finite(tensors)
    _check_fits(model, name, ranks, tensors)
    layers = _layers(model)
    for key, rank in ranks.items():
        if name not in layers[key].deltas:
            layers[key].augment(name, rank)
            layers[key].deltas[name].requires_grad_(False)
        layers[key].enable_delta(name)
    former = _exchange(model, tensors)
    others = {k: v for k, v in former.items() if f'.deltas.{name}.' not in f'.{k}'}
    loaded[name] = LoadedDelta(list(ranks), others)


def _check_fits(
    model: nn.Module, name: str, ranks: dict[str, int], tensors: dict[str, Tensor]
) -> None:
    """Compare the shapes of a delta with those the model has or would get."""
    shapes = {key: tuple(t.shape) for key, t in model.state_dict().items()}
    for key, layer in _layers(model).items():
        if key in ranks:
            sizes = get_split(layer.split).factor_shapes(layer.kernel_shape, ranks[key])
            for factor, size in zip('AB', sizes, strict=True):
                own = f'{key}.deltas.{name}.{factor}'.lstrip('.')
                if shapes.setdefault(own, size) != size:
                    raise ValueError(f'{own} has shape {shapes[own]}, not {size}')
    for key, tensor in tensors.items():
        if shapes.get(key) != tuple(tensor.shape):
            raise ValueError(
                f'the delta brings {key} of shape {tuple(tensor.shape)}, the model has '
                f'{shapes.get(key, "no such tensor")}'
            )


@torch.no_grad()
def _exchange(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Write tensors into a model by key; return copies of what was there.

    A tensor of the model with several keys is written, and returned, once.
    """
    state, former, done = model.state_dict(), {}, set()
    for key, value in tensors.items():
        place = state[key].data_ptr(), state[key].shape
        if place not in done:
            done.add(place)
            former[key] = state[key].clone()
            state[key].copy_(value)
    return former


def _record(model: nn.Module, name: str) -> LoadedDelta:
    loaded = getattr(model, '_mmir_loaded', {})
    if name not in loaded:
        raise ValueError(
            f'delta {name!r} was not loaded by load_delta_state_dict (loaded: '
            f'{list(loaded)}), so the former head and batch norms are unknown'
        )
    return loaded[name]


def switch_delta_(model: nn.Module, name: str, on: bool) -> None:
    """Switch a loaded delta off or on, with all that trained beside it, in place.

    Off restores the model that was there before, bit for bit.

    Args:
        model: Model the delta was loaded on; may be wrapped.
        name: Name of the delta.
        on: Whether it shall act.

    Raises:
        ValueError: If it was not loaded, or another delta that replaced the same
            tensors was switched on later: that one has to go first.
    """
    model = unwrap(model)
    record = _record(model, name)
    if record.on == on:
        return
    loaded = model._mmir_loaded
    if not on:
        later = list(loaded)[list(loaded).index(name) + 1 :]
        for other in later:
            if loaded[other].on and loaded[other].others.keys() & record.others.keys():
                raise ValueError(
                    f'delta {other!r} was switched on after {name!r} and replaced '
                    f'the same tensors: switch {other!r} off first'
                )
    record.others, record.on = _exchange(model, record.others), on
    layers = _layers(model)
    for key in record.layers:
        layers[key].enable_delta(name, on)
    if on:
        loaded[name] = loaded.pop(name)


def unload_delta(model: nn.Module, name: str) -> None:
    """Remove a loaded delta; the model is what it was before, bit for bit.

    Args:
        model: Model the delta was loaded on; may be wrapped.
        name: Name of the delta.

    Raises:
        ValueError: As `switch_delta_`.
    """
    model = unwrap(model)
    switch_delta_(model, name, False)
    layers = _layers(model)
    for key in model._mmir_loaded.pop(name).layers:
        del layers[key].deltas[name]


def save_delta(
    model: nn.Module, path: str | os.PathLike, values: dict[str, Tensor] | None = None
) -> int:
    """Write `delta_state_dict(model, values)` to a file, completely or not at all.

    Args:
        model: Model in a stage, see `delta_state_dict`.
        values: See `delta_state_dict`.
        path: File to write or replace; its folder is created.

    Returns:
        Size of the file in bytes.

    Raises:
        ValueError: See `delta_state_dict`; nothing is written then.
    """
    delta, path = delta_state_dict(model, values), Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
    try:
        with os.fdopen(handle, 'wb') as file:
            torch.save(delta, file)
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise
    return path.stat().st_size


def load_delta(model: nn.Module, path: str | os.PathLike) -> None:
    """Load a file of `save_delta` on the model it was trained on, in place.

    Args:
        model: See `load_delta_state_dict`.
        path: File to read; only tensors and plain types are accepted in it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such file or does not fit, naming the file.
    """
    try:
        delta = torch.load(path, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f'{path} is no file of save_delta: {error}') from error
    try:
        load_delta_state_dict(model, delta)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
