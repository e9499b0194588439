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
# How `torch.load` names what `weights_only=True` does not allow: in a file of the old
# format, and where a restricted function of an allowed name refuses its arguments.
_NAMED = re.compile(
    r'GLOBAL ([\w.]+) was not an allowed|^([\w.]+) of .* is not allowed', re.MULTILINE
)
_LATE_PROTOCOL = 'a pickle of protocol 3 or later, whose content torch does not list'


class CheckpointError(UserError, RuntimeError):
    """A checkpoint that cannot be read; the message names the file and the reason."""


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint that would run code when read in full.

    Attributes:
        path (Path): The file.
        names (list[str]): What is in it that `weights_only=True` does not allow.
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

    Args:
        path (Path): The file.
        error (Exception): What the safe load said of it.

    Returns:
        list[str]: Full names, sorted; empty if the file is damaged or no pickle.
    """
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except pickle.UnpicklingError:
        names = [_LATE_PROTOCOL]
    except Exception:  # the old format, or whatever a broken file raises
        names = []
    if names or not isinstance(error, pickle.UnpicklingError):
        return sorted(names)
    found = {a or b for a, b in _NAMED.findall(str(error))}
    return sorted(name if '.' in name else f'builtins.{name}' for name in found)


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


def save_checkpoint_atomic(obj: object, path: str | Path) -> None:
    """Write a checkpoint so that its file is there in full or not at all.

    Args:
        obj (object): What `torch.save` takes.
        path (str | Path): The file; missing folders are made.
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
