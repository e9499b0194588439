"""Reading untrusted checkpoints safely, and writing checkpoints atomically.

Unpickling a file can run any code, and mmengine of the OneDL releases falls back to it
when the safe load fails. The tools therefore call :func:`refuse_unsafe_checkpoints`
first, check the files the user names with :func:`require_safe`, and read them with
:func:`load_checkpoint`. Users can opt out with `--trust-checkpoint`, which calls
:func:`trust_checkpoints`.
"""

import hashlib
import os
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from mmir.compat import safe_globals
from mmir.utils.errors import UserError
from mmir.utils.files import atomic_path

_SAFE_ONLY = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
_UNSAFE_BY_DEFAULT = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'
# How `torch.load` reports what `weights_only=True` does not allow: in a file of the old
# format, and where an allowed but restricted function rejects its arguments.
_NAMED = re.compile(
    r'GLOBAL ([\w.]+) was not an allowed|^([\w.]+) of .* is not allowed', re.MULTILINE
)
_LATE_PROTOCOL = 'a pickle of protocol 3 or later, whose content torch does not list'


class CheckpointError(UserError, RuntimeError):
    """A checkpoint cannot be read; the message gives the file and the reason."""


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint would run code if it were loaded in full.

    Attributes:
        path (Path): The file.
        names (list[str]): Its contents that `weights_only=True` does not allow.
    """

    def __init__(self, path: str | Path, names: list[str]) -> None:
        self.path, self.names = Path(path), names
        super().__init__(
            f'{path} is not a plain checkpoint and was not loaded, because loading it '
            f'can run code. Besides tensors and plain types it contains: '
            f'{", ".join(names)}. If, and only if, you trust its source, allow it with '
            '--trust-checkpoint (in Python: trust=True).'
        )


def refuse_unsafe_checkpoints() -> None:
    """Make every `torch.load` of this process and its children safe.

    Sets `TORCH_FORCE_WEIGHTS_ONLY_LOAD=1`, which also overrides callers that ask for
    the unsafe load, and allows the types that a training checkpoint contains.
    """
    safe_globals.install()
    os.environ.pop(_UNSAFE_BY_DEFAULT, None)
    os.environ[_SAFE_ONLY] = '1'


def trust_checkpoints() -> None:
    """Undo :func:`refuse_unsafe_checkpoints`, so that hosts load any checkpoint.

    Call it only if the user asked for it: any file loaded afterwards can run code.
    """
    os.environ.pop(_SAFE_ONLY, None)
    os.environ[_UNSAFE_BY_DEFAULT] = '1'


def load_checkpoint(
    path: str | Path,
    trust: bool = False,
    map_location: str | torch.device = 'cpu',
) -> dict[str, Any]:
    """Load a checkpoint file, with `weights_only=True` unless it is trusted.

    Args:
        path (str | Path): Local file.
        trust (bool): Whether the file may run code. Defaults to False.
        map_location (str | torch.device): Device of the tensors. Defaults to 'cpu'.

    Returns:
        dict: Content: a state dict, or a dict with keys such as `state_dict`.

    Raises:
        FileNotFoundError: The file does not exist.
        UnsafeCheckpointError: Loading the file would run code.
        CheckpointError: The file is damaged, not a checkpoint, or holds no dictionary.
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
        # A foreign or broken file can raise any exception.
        names = [] if trust else _culprits(path, error)
        if names:
            raise UnsafeCheckpointError(path, names) from None
        raise CheckpointError(
            f'checkpoint {path} ({path.stat().st_size} bytes) cannot be read; it is '
            f'damaged, truncated, or not a torch.save file ({_first_line(error)})'
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f'checkpoint {path} holds a {type(content).__name__}, not a dictionary'
        )
    return content


def require_safe(path: str | Path) -> None:
    """Check that a checkpoint exists and loads safely, before anything depends on it.

    No tensor is kept in memory. A remote checkpoint (with `://` in its name) cannot be
    checked before it is downloaded; :func:`refuse_unsafe_checkpoints` protects its
    loading.

    Args:
        path (str | Path): The file.

    Raises:
        FileNotFoundError: The file does not exist.
        UnsafeCheckpointError: Loading the file would run code.
        CheckpointError: The file is damaged or not a checkpoint.
    """
    if '://' not in str(path):
        load_checkpoint(path, map_location='meta')


def _culprits(path: Path, error: Exception) -> list[str]:
    """List the names in a rejected file that `weights_only=True` does not allow.

    Args:
        path (Path): The file.
        error (Exception): Error of the safe load.

    Returns:
        list[str]: Full names, sorted; empty if the file is damaged or not a pickle.
    """
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except pickle.UnpicklingError:
        names = [_LATE_PROTOCOL]
    except Exception:  # the old format, or any error of a broken file
        names = []
    if names or not isinstance(error, pickle.UnpicklingError):
        return sorted(names)
    found = {a or b for a, b in _NAMED.findall(str(error))}
    return sorted(name if '.' in name else f'builtins.{name}' for name in found)


@contextmanager
def _without(variable: str) -> Iterator[None]:
    """Temporarily remove a variable from the environment."""
    value = os.environ.pop(variable, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[variable] = value


def _first_line(error: Exception) -> str:
    """Return the class and the first line of the message of an exception."""
    lines = str(error).strip().splitlines()
    return f'{type(error).__name__}: {lines[0]}' if lines else type(error).__name__


def save_checkpoint_atomic(obj: object, path: str | Path) -> None:
    """Write a checkpoint atomically.

    Args:
        obj (object): Anything `torch.save` accepts.
        path (str | Path): The file; missing folders are created.
    """
    with atomic_path(path) as partial:
        torch.save(obj, partial)


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open('rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
