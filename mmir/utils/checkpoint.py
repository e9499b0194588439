"""Reading checkpoints that nobody vouches for, and writing them whole.

A pickle can run any code when it is read, and mmengine of the OneDL releases reads a
file that way when the safe load fails. So the tools call
:func:`refuse_unsafe_checkpoints` first of all, check what the user names with
:func:`require_safe`, and read with :func:`load_checkpoint`. The way out is the user's
`--trust-checkpoint`, which calls :func:`trust_checkpoints`.
"""

import hashlib
import os
import pickle
import pickletools
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import torch

from mmir.compat import safe_globals

_SAFE_ONLY = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
_UNSAFE_BY_DEFAULT = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'
# What torch.save itself writes; named in no message.
_OF_TORCH = {
    '_codecs.encode',
    'builtins.set',
    'collections.OrderedDict',
    'torch._utils._rebuild_parameter',
    'torch._utils._rebuild_tensor_v2',
}
# The pickles at the start of a file before the zip format of torch 1.6: magic number,
# protocol, system, content, storage keys.
_LEGACY_PICKLES = 5
_UNREADABLE = (
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    pickle.PickleError,
    zipfile.BadZipFile,
)


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read; the message names the file and the reason."""


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint that would run code when read in full.

    Attributes:
        path (Path): The file.
        names (list[str]): Globals in it that `weights_only=True` does not allow.
    """

    def __init__(self, path: str | Path, names: list[str]) -> None:
        self.path, self.names = Path(path), names
        super().__init__(
            f'{path} is not a plain checkpoint and was not loaded, because reading it '
            f'can run code. Beside tensors and plain types it contains: '
            f'{", ".join(names)}. If, and only if, you trust its source, allow it with '
            '--trust-checkpoint (in Python: trust=True).'
        )


def refuse_unsafe_checkpoints() -> None:
    """Make every `torch.load` of this process and its children a safe one.

    It sets `TORCH_FORCE_WEIGHTS_ONLY_LOAD=1`, which also overrules callers that ask for
    the unsafe load, and registers what a training checkpoint needs.
    """
    safe_globals.install()
    os.environ.pop(_UNSAFE_BY_DEFAULT, None)
    os.environ[_SAFE_ONLY] = '1'


def trust_checkpoints() -> None:
    """Undo :func:`refuse_unsafe_checkpoints`; hosts then read any checkpoint in full.

    Only for a user who said so: whatever is loaded from here on can run code.
    """
    os.environ.pop(_SAFE_ONLY, None)
    os.environ[_UNSAFE_BY_DEFAULT] = '1'


def load_checkpoint(
    path: str | Path,
    trust: bool = False,
    map_location: str | torch.device = 'cpu',
) -> dict[str, Any]:
    """Read a checkpoint file, with `weights_only=True` unless it is trusted.

    Args:
        path (str | Path): A local file.
        trust (bool): Let the file run code. Defaults to False.
        map_location (str | torch.device): Device of the tensors. Defaults to 'cpu'.

    Returns:
        dict: The content: a state dict, or one with keys such as `state_dict`.

    Raises:
        FileNotFoundError: There is no such file.
        UnsafeCheckpointError: Reading it needs code that the file names.
        CheckpointError: It is damaged, no checkpoint at all, or holds no dictionary.
    """
    path = Path(path)
    if not path.is_file():
        what = 'is a folder' if path.is_dir() else 'does not exist'
        raise FileNotFoundError(f'checkpoint {path} {what}')
    safe_globals.install()
    guard = _without(_SAFE_ONLY) if trust else nullcontext()
    try:
        with guard:
            content = torch.load(
                path, map_location=map_location, weights_only=not trust
            )
    except Exception as error:
        # Which exception a foreign or broken file raises is up to its bytes.
        names = [] if trust else _culprits(path, error)
        if names:
            raise UnsafeCheckpointError(path, names) from None
        raise CheckpointError(
            f'checkpoint {path} ({path.stat().st_size} bytes) cannot be read; it is '
            f'damaged, cut off, or no file of torch.save ({_first_line(error)})'
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f'checkpoint {path} holds a {type(content).__name__}, not a dictionary'
        )
    return content


def require_safe(path: str | Path) -> None:
    """Check a checkpoint before anything is built on it.

    No tensor is kept in memory. A remote one (with `://` in its name) cannot be checked
    before its download; :func:`refuse_unsafe_checkpoints` guards its load.

    Args:
        path (str | Path): The file.

    Raises:
        FileNotFoundError: There is no such file.
        UnsafeCheckpointError: Reading it needs code that the file names.
        CheckpointError: It is damaged or no checkpoint.
    """
    if '://' not in str(path):
        load_checkpoint(path, map_location='meta')


def _culprits(path: Path, error: Exception) -> list[str]:
    """List what a refused file names that `weights_only=True` does not allow.

    The file is taken apart, not run.

    Args:
        path (Path): The file.
        error (Exception): What the safe load said of it.

    Returns:
        list[str]: Full names, sorted; empty if the file is damaged or no pickle.
    """
    # It knows the zip format in pickle protocol 2 only, and torch < 2.6 has it not.
    with suppress(AttributeError, *_UNREADABLE):
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        if names:
            return sorted(names)
    if not isinstance(error, pickle.UnpicklingError):
        return []
    allowed = torch.serialization.get_safe_globals()
    plain = (each[0] if isinstance(each, tuple) else each for each in allowed)
    known = {f'{each.__module__}.{each.__qualname__}' for each in plain} | _OF_TORCH
    # The restricted getattr has that name too, and may be what refused.
    known.discard('builtins.getattr')
    return sorted(
        name
        for name in _scan(path) - known
        if not (name.startswith('torch.') and name.endswith('Storage'))
    )


@contextmanager
def _without(variable: str) -> Iterator[None]:
    """Take a variable out of the environment for a while."""
    value = os.environ.pop(variable, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[variable] = value


def _first_line(error: Exception) -> str:
    """Return the class and the first line of what an exception says."""
    lines = str(error).strip().splitlines()
    return f'{type(error).__name__}: {lines[0]}' if lines else type(error).__name__


def _scan(path: Path) -> set[str]:
    """Return every global that the readable part of a checkpoint names."""
    names: set[str] = set()
    with path.open('rb') as file, suppress(*_UNREADABLE):
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                for member in archive.namelist():
                    if member.endswith('.pkl'):
                        names |= set(_globals(BytesIO(archive.read(member))))
        else:
            file.seek(0)
            for _ in range(_LEGACY_PICKLES):
                for name in _globals(file):
                    names.add(name)
    return names


def _globals(file: BinaryIO) -> Iterator[str]:
    """Yield the globals of one pickle, in its protocols 0 to 5.

    `STACK_GLOBAL` takes its module and name from the stack: the last two strings put
    there, directly or out of the memo.
    """
    strings: list[str] = []
    memo: dict[int, str] = {}
    for code, value, _ in pickletools.genops(file):
        if code.name in ('GLOBAL', 'INST'):
            yield value.replace(' ', '.').replace('__builtin__.', 'builtins.')
        elif code.name == 'STACK_GLOBAL':
            yield '.'.join(strings[-2:])
        elif code.name == 'MEMOIZE':
            memo[len(memo)] = strings[-1] if strings else ''
        elif code.name in ('PUT', 'BINPUT', 'LONG_BINPUT'):
            memo[value] = strings[-1] if strings else ''
        elif code.name in ('GET', 'BINGET', 'LONG_BINGET'):
            strings.append(memo.get(value, ''))
        elif isinstance(value, str):
            strings.append(value)


def save_checkpoint_atomic(obj: object, path: str | Path) -> None:
    """Write a checkpoint so that its file is there in full or not at all.

    It is written beside its place under another name and then moved. An older file
    stays as it was if anything fails.

    Args:
        obj (object): What `torch.save` takes.
        path (str | Path): The file; missing folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.{os.getpid()}.partial')
    try:
        with partial.open('wb') as file:
            torch.save(obj, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open('rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
