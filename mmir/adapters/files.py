"""Saving and loading of adapter files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from mmir.utils.checkpoint import (
    CheckpointError,
    read_checkpoint,
    save_checkpoint_atomic,
)
from mmir.utils.files import few

from .checksum import Adapter, check_seal, seal
from .fingerprint import check_same_base, fingerprint
from .freeze import adapter_keys
from .layer import KINDS, AdapterLayer
from .record import LoadedAdapter, record_of, stage_of
from .switch import exchange
from .walk import names_of, replace_, unwrap

FORMAT = 'mmir-adapter-1'


def adapter_layers(model: nn.Module) -> dict[str, AdapterLayer]:
    """Adapter layers of a model by their first name."""
    return {names[0]: layer for layer, names in names_of(model, AdapterLayer)}


def _check_finite(tensors: dict[str, Tensor]) -> None:
    for key, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(f'{key} of the adapter holds NaN or infinite values')


def adapter_state(model: nn.Module, values: dict[str, Tensor] | None = None) -> Adapter:
    """Collect everything the current stage changes in a model, and nothing else.

    Args:
        model: Adapted model, see `adapt_`; may be wrapped.
        values: State dict of the same model to take the tensors from, for example a
            moving average of the weights. Default: the model's own.

    Returns:
        Tensors and plain types only:

        - `state_dict`: the adapters, the other trainable parameters and the updated
          running statistics under their keys in the model; copies on the CPU.
        - `meta`: format, name, method, class and options of the adapter of each layer,
          a fingerprint of the rest of the model, checksums.

    Raises:
        ValueError: The model is not in a stage, or holds NaN or infinite values.
    """
    model = unwrap(model)
    stage, state = stage_of(model), values or model.state_dict()
    # Keyed by storage, so that a module with several names is stored once.
    copies: dict[tuple, Tensor] = {}
    tensors = {}
    for key in stage.changed:
        place = state[key].data_ptr(), state[key].shape
        if place not in copies:
            copies[place] = state[key].detach().clone().cpu()
        tensors[key] = copies[place]
    _check_finite(tensors)
    layers = {
        key: {
            'kind': type(layer).__name__,
            'options': layer.adapter_options(stage.name),
        }
        for key, layer in adapter_layers(model).items()
        if stage.name in dict(layer.named_adapters())
    }
    meta = {
        'format': FORMAT,
        'name': stage.name,
        'method': stage.method,
        'layers': layers,
        'base': fingerprint(model, stage.changed),
    }
    return seal(meta, tensors)


def save_adapter(
    model: nn.Module, path: str | os.PathLike, values: dict[str, Tensor] | None = None
) -> int:
    """Write `adapter_state(model, values)` to a file, atomically and durably.

    Args:
        model: Adapted model, see `adapt_`; may be wrapped.
        path: File to write or replace; its folder is created.
        values: See `adapter_state`.

    Returns:
        Size of the file in bytes.

    Raises:
        ValueError: See `adapter_state`; nothing is written.
    """
    save_checkpoint_atomic(adapter_state(model, values), path)
    return os.stat(path).st_size


def load_adapter(model: nn.Module, path: str | os.PathLike) -> None:
    """Load an adapter file into the model it was trained on, in place.

    Args:
        model: See `load_adapter_state`.
        path: File written by `save_adapter`; may hold only tensors and plain types.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is not an adapter file or does not fit; names the file.
    """
    try:
        adapter = read_checkpoint(path, trust=False)
    except CheckpointError as error:
        raise ValueError(f'{path} is not a file of save_adapter: {error}') from error
    try:
        load_adapter_state(model, adapter)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error


def load_adapter_state(model: nn.Module, adapter: Adapter) -> None:
    """Load an adapter into the model it was trained on, in place.

    The output becomes that of the trained model, bit for bit. The previous values of
    everything that trained along with the adapters (head, norms) are kept on the model
    but outside its state dict, so that `switch_adapter_` and `unload_adapter` can
    restore them. Adapters the model does not have yet are added, frozen; plain layers
    are converted to the adapter layers the file names where possible.

    Args:
        model: The base model; may be wrapped.
        adapter: Result of `adapter_state`.

    Raises:
        ValueError: It is not an adapter, is damaged, is loaded already, belongs to
            another model (the message says what differs) or holds NaN. The model is
            unchanged then.
    """
    model = unwrap(model)
    meta, tensors = _parts(adapter)
    name, loaded = meta['name'], record_of(model).loaded
    if name in loaded:
        raise ValueError(f'adapter {name!r} is loaded already, unload_adapter it first')
    check_same_base(meta['base'], model, tensors)
    _check_finite(tensors)
    with _installed(model, name, meta['layers']) as replaced:
        _check_complete(adapter_keys(model, name) - tensors.keys())
        _check_shapes(model, tensors)
    layers = adapter_layers(model)
    for key in meta['layers']:
        layers[key].enable_adapter(name)
    own = adapter_keys(model, name)
    former = exchange(model, tensors)
    others = {key: value for key, value in former.items() if key not in own}
    loaded[name] = LoadedAdapter(list(meta['layers']), list(replaced), others)


def _parts(adapter: Adapter) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Metadata and tensors of an adapter; checks its format and checksums."""
    try:
        meta, tensors = adapter['meta'], dict(adapter['state_dict'])
        known = meta['format'] == FORMAT
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f'not the result of adapter_state: no {error}') from error
    if not known:
        raise ValueError(
            f'unknown format {meta["format"]!r} of an adapter, not {FORMAT}'
        )
    try:
        check_seal(adapter)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f'the adapter is damaged: {error!r}') from error
    unknown = {row['kind'] for row in meta['layers'].values()} - set(KINDS)
    if unknown:
        raise ValueError(
            f'adapter layers {sorted(unknown)} of {meta["method"]!r} are unknown here: '
            'import the package that defines them first'
        )
    return meta, tensors


@contextmanager
def _installed(
    model: nn.Module, name: str, rows: dict[str, dict[str, Any]]
) -> Iterator[dict[str, nn.Module]]:
    """Add the missing adapters; undo everything if the block raises.

    Yields:
        The plain modules that were converted to adapter layers, by name.
    """
    replaced: dict[str, nn.Module] = {}
    added: list[AdapterLayer] = []
    modules = dict(model.named_modules(remove_duplicate=False))
    try:
        for key, row in rows.items():
            if key not in modules:
                raise ValueError(f'the model has no layer {key!r}')
            layer = modules[key]
            if not isinstance(layer, KINDS[row['kind']]):
                plain, layer = layer, _made(key, layer, row['kind'])
                replaced[key] = plain
                replace_(model, {plain: layer})
            if name not in dict(layer.named_adapters()):
                layer.add_adapter(name, **row['options'])
                added.append(layer)
                for part in dict(layer.named_adapters())[name].parameters():
                    part.requires_grad_(False)
        for layer in added:
            layer.connect(model)
        yield replaced
    except BaseException:
        for layer in added:
            layer.remove_adapter(name)
        current = dict(model.named_modules(remove_duplicate=False))
        replace_(model, {current[key]: plain for key, plain in replaced.items()})
        raise


def _made(key: str, module: nn.Module, kind: str) -> AdapterLayer:
    """Adapter layer for a plain module; puts the module's name into errors."""
    try:
        return KINDS[kind].from_base(module)
    except ValueError as error:
        raise ValueError(f'{key}: {error}') from error


def _check_complete(missing: set[str]) -> None:
    """Refuse an adapter that would leave parts of its layers as initialized."""
    if missing:
        raise ValueError(
            f'the adapter lacks {len(missing)} tensors of its layers: '
            f'{few(sorted(missing))}; save it again with save_adapter'
        )


def _check_shapes(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Compare the shapes of an adapter with those of the model."""
    shapes = {key: tuple(t.shape) for key, t in model.state_dict().items()}
    for key, tensor in tensors.items():
        if shapes.get(key) != tuple(tensor.shape):
            raise ValueError(
                f'the adapter has {key} of shape {tuple(tensor.shape)}, the model '
                f'has {shapes.get(key, "no such tensor")}'
            )
