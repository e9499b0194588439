"""Safe reader of files that pickle whole modules.

`torch.save(model)` stores classes by name, and loading the file imports and calls
whatever it names. Here nothing is imported or called: tensors and plain types are
rebuilt, objects of other classes become an inert :class:`Foreign` that keeps its state,
and a file that tries to call anything else is refused.
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
# Metrics and devices stored next to the weights: kept as inert objects, not rebuilt.
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
    """Metaclass of classes that a pickle can neither call nor modify."""

    def __call__(cls, *_: object, **__: object) -> None:
        raise pickle.UnpicklingError(f'it asks to call {cls.__name__}')

    def __setattr__(cls, name: str, value: object) -> None:
        raise pickle.UnpicklingError(f'it asks to change {cls.__name__}')


class Foreign(metaclass=_Refusing):
    """Placeholder for an object whose class is not imported.

    Attributes:
        state: Pickled state of the object, None if there is none.
    """

    state: Any = None

    def __new__(cls, *_: object, **__: object) -> 'Foreign':
        """Create an empty object; the arguments have no meaning without the class."""
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        self.__dict__ = {'state': state}


class _Call:
    """Function that a pickle may call but not modify."""

    __slots__ = ('_function',)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: object) -> Any:
        return self._function(*args)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError('it asks to change a function')


class _Unpickler(pickle.Unpickler):
    """Unpickler that rebuilds only tensors and plain types.

    Args:
        content (bytes): Pickled content.
        read (callable): Returns the bytes of a storage by key.
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
        """Return the substitute for an imported name."""
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
            # a writable buffer
            content = bytearray(self._read(key))
            empty = torch.empty(0, dtype=dtype)
            flat = torch.frombuffer(content, dtype=dtype) if content else empty
            self._storages[key] = flat
        return self._storages[key]


def _rebuild(
    flat: Tensor, offset: int, size: tuple, stride: tuple, *_: object
) -> Tensor:
    """Return a tensor of a storage; torch checks the bounds."""
    return flat.as_strided(tuple(size), tuple(stride), offset)


def read_pickled(path: str | Path) -> Any:
    """Read a file of `torch.save` without running any code in it.

    Args:
        path (str | Path): File in the zip format of torch >= 1.6.

    Returns:
        The saved content, with :class:`Foreign` in place of every object that is
        neither a tensor nor a plain type.

    Raises:
        CheckpointError: The file has another format, is damaged, or tries to call a
            function that does not rebuild tensors; the message names it.
    """
    if not zipfile.is_zipfile(path):
        raise CheckpointError(
            f'{path} is not a zip file: it was written by torch < 1.6 or is damaged. '
            'If you trust its source and its code is installed, load it and save the '
            'state dict of the model instead'
        )
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.endswith('/data.pkl')]
            if len(names) != 1:
                raise pickle.UnpicklingError(
                    'it is a zip file, but not from torch.save'
                )
            folder = names[0].removesuffix('.pkl')
            content = archive.read(names[0])
            return _Unpickler(
                content, lambda key: archive.read(f'{folder}/{key}')
            ).load()
    except Exception as error:
        # a broken or malicious file may raise any exception
        raise CheckpointError(
            f'{path} was not read, nothing in it was run: '
            f'{str(error) or type(error).__name__}'
        ) from error


def module_weights(module: Foreign) -> dict[str, Tensor]:
    """Return the parameters and buffers of a module under the names of a state dict.

    Args:
        module (Foreign): A pickled `torch.nn.Module`.

    Returns:
        dict[str, Tensor]: State dict as saved; empty if it is not a module.

    Raises:
        CheckpointError: A module contains itself.
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
    """Return one of the dictionaries of a module, empty if it is missing."""
    found = module.state.get(kind)
    return found if isinstance(found, dict) else {}
