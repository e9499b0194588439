"""Weights of files that pickle whole modules, read without the code of these modules.

`torch.save(model)` writes the classes of a model by name, and reading it back imports
and calls whatever is named. Here nothing is imported or called: tensors and plain types
are rebuilt, every other class becomes an inert :class:`Foreign` that keeps its state,
and a file that asks to call anything else is refused.
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmir.utils.checkpoint import CheckpointError

_STORAGES = {
    'DoubleStorage': torch.float64,
    'FloatStorage': torch.float32,
    'HalfStorage': torch.float16,
    'BFloat16Storage': torch.bfloat16,
    'LongStorage': torch.int64,
    'IntStorage': torch.int32,
    'ShortStorage': torch.int16,
    'CharStorage': torch.int8,
    'ByteStorage': torch.uint8,
    'BoolStorage': torch.bool,
}
# Results and devices that lie beside the weights: kept as inert objects, not built.
_RECORDED = {
    '_codecs.encode',
    'numpy.core.multiarray._reconstruct',
    'numpy.core.multiarray.scalar',
    'numpy._core.multiarray._reconstruct',
    'numpy._core.multiarray.scalar',
    'numpy.dtype',
    'torch.Size',
    'torch.device',
}
_MOST_MODULES, _LONGEST_NAME = 10_000, 500


class _Refusing(type):
    """Makes a class that a pickle can neither call nor change."""

    def __call__(cls, *_: object, **__: object) -> None:
        raise pickle.UnpicklingError(f'it asks to call {cls.__name__}')

    def __setattr__(cls, name: str, value: object) -> None:
        raise pickle.UnpicklingError(f'it asks to change {cls.__name__}')


class Foreign(metaclass=_Refusing):
    """An object of a class that was not imported.

    Attributes:
        state: What the object was pickled with, None if it was nothing.
    """

    state: Any = None

    def __new__(cls, *_: object, **__: object) -> 'Foreign':
        """Make an empty object; what its arguments mean only the class would know."""
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        self.__dict__ = {'state': state}


class _Call:
    """A function that a pickle may call, but not change."""

    __slots__ = ('_function',)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: object) -> Any:
        return self._function(*args)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError('it asks to change a function')


class _Unpickler(pickle.Unpickler):
    """Rebuilds tensors and plain types only.

    Args:
        content (bytes): The pickle.
        read (callable): Returns the bytes of a storage by its key.
    """

    def __init__(self, content: bytes, read: Callable[[str], bytes]) -> None:
        super().__init__(BytesIO(content))
        self._read = read
        self._storages: dict[str, Tensor] = {}
        self._calls: dict[str, Callable[..., Any]] = {
            'torch._utils._rebuild_tensor_v2': _rebuild,
            'torch._utils._rebuild_parameter': lambda data, *_: data,
            'collections.OrderedDict': OrderedDict,
            'builtins.set': set,
            '__builtin__.set': set,
            **dict.fromkeys(_RECORDED, lambda *_: Foreign.__new__(Foreign)),
        }

    def find_class(self, module: str, name: str) -> Any:
        """Stand in for the import of a name."""
        full = f'{module}.{name}'
        if full in self._calls:
            return _Call(self._calls[full])
        if module == 'torch' and name in _STORAGES:
            return _STORAGES[name]
        return _Refusing(full, (Foreign,), {})

    def persistent_load(self, pid: Any) -> Tensor:
        """Return a storage as a flat tensor."""
        kind, dtype, key, *_ = pid
        if kind != 'storage' or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f'it holds no plain tensors but {dtype}')
        if key not in self._storages:
            # writable, as tensors are
            content = bytearray(self._read(key))
            empty = torch.empty(0, dtype=dtype)
            flat = torch.frombuffer(content, dtype=dtype) if content else empty
            self._storages[key] = flat
        return self._storages[key]


def _rebuild(
    flat: Tensor, offset: int, size: tuple, stride: tuple, *_: object
) -> Tensor:
    """Tensor of a storage; torch checks that it lies inside."""
    return flat.as_strided(tuple(size), tuple(stride), offset)


def read_pickled(path: str | Path) -> Any:
    """Read a file of `torch.save` without running any code that it names.

    Args:
        path (str | Path): The file, in the zip format of torch >= 1.6.

    Returns:
        What was saved, with :class:`Foreign` in the place of every object that is
        neither a tensor nor of a plain type.

    Raises:
        CheckpointError: It has another format, is damaged, or asks to call a function
            that is not among those which rebuild tensors; the message names it.
    """
    if not zipfile.is_zipfile(path):
        raise CheckpointError(
            f'{path} is no zip file: torch < 1.6 wrote it, or it is damaged. Where its '
            'source is trusted and its code is installed, load it and save the state '
            'dict of the model instead'
        )
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.endswith('/data.pkl')]
            if len(names) != 1:
                raise pickle.UnpicklingError('it is a zip file, but not of torch.save')
            folder = names[0].removesuffix('.pkl')
            content = archive.read(names[0])
            return _Unpickler(
                content, lambda key: archive.read(f'{folder}/{key}')
            ).load()
    except Exception as error:
        # which exception a broken or malicious file raises is up to its bytes
        raise CheckpointError(
            f'{path} was not read, nothing in it was run: '
            f'{str(error) or type(error).__name__}'
        ) from error


def module_weights(module: Foreign) -> dict[str, Tensor]:
    """Return the parameters and buffers of a module under the names of a state dict.

    Args:
        module (Foreign): A pickled `torch.nn.Module`.

    Returns:
        dict[str, Tensor]: As saved; empty if it is no module.

    Raises:
        CheckpointError: A module is part of itself.
    """
    weights: dict[str, Tensor] = {}
    waiting, visited = [('', module)], 0
    while waiting:
        prefix, current = waiting.pop()
        if not isinstance(current, Foreign) or not isinstance(current.state, dict):
            continue
        visited += 1
        if visited > _MOST_MODULES or len(prefix) > _LONGEST_NAME:
            raise CheckpointError('the modules of the file contain themselves')
        for kind in ('_parameters', '_buffers'):
            for name, value in _dict(current, kind).items():
                if isinstance(value, Tensor):
                    weights[prefix + name] = value
        children = _dict(current, '_modules').items()
        waiting += [(f'{prefix}{name}.', child) for name, child in children]
    return weights


def _dict(module: Foreign, kind: str) -> dict[str, Any]:
    """One of the dictionaries a module consists of, empty if it has it not."""
    found = module.state.get(kind)
    return found if isinstance(found, dict) else {}
