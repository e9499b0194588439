"""Reading untrusted checkpoints safely, and writing checkpoints atomically.

Unpickling a file can run any code, and mmengine of the OneDL releases falls back to it
when the safe load fails. Therefore every checkpoint is loaded with `weights_only=True`:
here, and through `mmir.utils.host_loading` wherever mmengine or a host loads one. The
tools also call :func:`refuse_unsafe_checkpoints`, for all of their process. Users can
opt out with `--trust-checkpoint` or :func:`trust_checkpoints`.
"""

import hashlib
import os
import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmir.compat import safe_globals
from mmir.utils.config_text import executable_configs
from mmir.utils.errors import UserError
from mmir.utils.files import atomic_path, few
from mmir.utils.foreign_files import foreign_format, is_safetensors
from mmir.utils.weights import BareWeights, normalized

Device = str | torch.device | Callable | dict | None
"""What `map_location` of `torch.load` takes."""

_SAFE_ONLY = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
_UNSAFE_BY_DEFAULT = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'
# How `torch.load` reports what `weights_only=True` does not allow: in a file of the old
# format, and where an allowed but restricted function rejects its arguments.
_NAMED = re.compile(
    r'GLOBAL ([\w.]+) was not an allowed|^([\w.]+) of .* is not allowed', re.MULTILINE
)


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
        module = any(name.startswith('torch.nn.modules.') for name in names)
        instead = (
            'It holds a whole model: ask for its state_dict() alone. ' if module else ''
        )
        super().__init__(
            f'{path} is not a plain checkpoint and was not loaded, because loading it '
            f'can run code. Besides tensors and plain types it contains: '
            f'{", ".join(names)}. {instead}If, and only if, you trust its source, '
            'allow it with --trust-checkpoint (in Python: '
            'mmir.utils.checkpoint.trust_checkpoints()).'
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
    """Let mmir and the hosts load any checkpoint, in this process and its children.

    Call it only if the user asked for it: any file loaded afterwards can run code. It
    sets `TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1`, as the user can in the shell.
    """
    os.environ.pop(_SAFE_ONLY, None)
    os.environ[_UNSAFE_BY_DEFAULT] = '1'


def checkpoints_trusted() -> bool:
    """Whether the user lets checkpoints run code, see :func:`trust_checkpoints`."""
    return _is_set(_UNSAFE_BY_DEFAULT) and not _is_set(_SAFE_ONLY)


@contextmanager
def safe_loads() -> Iterator[None]:
    """Make `torch.load` safe within the block, whatever a caller asks for.

    Does nothing if checkpoints are trusted.
    """
    if checkpoints_trusted() or _is_set(_SAFE_ONLY):
        yield
        return
    os.environ[_SAFE_ONLY] = '1'
    try:
        yield
    finally:
        os.environ.pop(_SAFE_ONLY, None)


def local_path(name: str | Path) -> Path | None:
    """Path of a checkpoint on this machine; None for another scheme, such as https.

    Args:
        name (str | Path): A path, which may begin with `~` or `file://`.
    """
    name = str(name).removeprefix('file://')
    return None if '://' in name else Path(name).expanduser()


def read_checkpoint(
    path: str | Path, trust: bool | None = None, map_location: Device = 'cpu'
) -> Any:
    """Read a checkpoint file as it is, without running code unless it is trusted.

    Args:
        path (str | Path): Local file: of torch.save, or safetensors.
        trust (bool, optional): Whether the file may run code. Default: only after
            :func:`trust_checkpoints`.
        map_location: Device of the tensors, as in `torch.load`. Defaults to 'cpu'.

    Returns:
        Any: Its content.

    Raises:
        FileNotFoundError: The file does not exist.
        UnsafeCheckpointError: Loading the file would run code.
        CheckpointError: The file is damaged or not a checkpoint; names its format.
    """
    path = local_path(path) or Path(path)
    trust = checkpoints_trusted() if trust is None else trust
    if not path.is_file():
        what = 'is a folder' if path.is_dir() else 'does not exist'
        raise FileNotFoundError(f'checkpoint {path} {what}')
    safe_globals.install()
    try:
        if is_safetensors(path):
            return _read_safetensors(path, map_location)
        with _without(_SAFE_ONLY, trust):
            return torch.load(path, map_location=map_location, weights_only=not trust)
    except Exception as error:
        # A foreign or broken file can raise any exception.
        raise _explained(path, error, trust) from error


def load_checkpoint(
    path: str | Path, trust: bool | None = None, map_location: Device = 'cpu'
) -> dict[str, Any]:
    """Load a checkpoint file, without running code unless it is trusted.

    Args:
        path (str | Path): Local file: of torch.save, or safetensors.
        trust (bool, optional): Whether the file may run code. Default: only after
            :func:`trust_checkpoints`.
        map_location: Device of the tensors. Defaults to 'cpu'.

    Returns:
        dict: Content. Weights are found with :func:`weights_of`, whatever their place
        in the file.

    Raises:
        FileNotFoundError: The file does not exist.
        UnsafeCheckpointError: Loading the file would run code.
        CheckpointError: The file is damaged, not a checkpoint, or holds no dictionary.
    """
    content = normalized(read_checkpoint(path, trust, map_location))
    if not isinstance(content, dict):
        raise CheckpointError(
            f'checkpoint {path} holds a {type(content).__name__}, not a dictionary'
        )
    return content


def weights_of(checkpoint: dict[str, Any], source: str | Path) -> dict[str, Tensor]:
    """Return the state dict inside a checkpoint.

    Args:
        checkpoint (dict): Result of :func:`load_checkpoint`.
        source (str | Path): Name of the file, for messages.

    Returns:
        dict[str, Tensor]: State dict, without the prefixes of wrappers such as
        DistributedDataParallel (`module.`) and `torch.compile` (`_orig_mod.`).

    Raises:
        CheckpointError: It holds none, or several to choose from; names the keys.
    """
    state = normalized(checkpoint)
    if isinstance(state, BareWeights) or 'state_dict' in state:
        return state['state_dict']
    raise CheckpointError(
        f'{source} has no weights that can be told apart: it is no state dict, and has '
        f'none under state_dict, model or ema_state_dict. Its keys: '
        f'{few(checkpoint, 12)}. '
        "Save the right part by itself: torch.save(content['KEY'], 'weights.pth')"
    )


def require_safe(path: str | Path) -> None:
    """Check that a checkpoint exists and loads safely, before anything depends on it.

    No tensor is kept in memory. A remote checkpoint (such as `https://`) cannot be
    checked before it is downloaded; its loading is safe as well.

    Args:
        path (str | Path): The file.

    Raises:
        FileNotFoundError: The file does not exist.
        UnsafeCheckpointError: Loading the file would run code.
        CheckpointError: The file is damaged or not a checkpoint.
    """
    local = local_path(path)
    if local is not None:
        check_configs(path, load_checkpoint(local, False, map_location='meta'))


def check_configs(source: str | Path, content: Any) -> None:
    """Refuse a checkpoint whose config texts, which mmengine executes, hold code.

    Args:
        source (str | Path): Name of the file, for the message.
        content: Its content.

    Raises:
        UnsafeCheckpointError: They do more than assign values; says where.
    """
    if places := executable_configs(content):
        raise UnsafeCheckpointError(source, [f'Python code in {p}' for p in places])


def _read_safetensors(path: Path, map_location: Device) -> dict[str, Tensor]:
    """Read a safetensors file; a device is honored, other kinds of location are not."""
    from safetensors.torch import load_file  # imports numpy and torch only

    tensors = load_file(path)
    if not isinstance(map_location, (str, torch.device)):
        return tensors
    return {key: tensor.to(map_location) for key, tensor in tensors.items()}


def _explained(path: Path, error: Exception, trust: bool) -> CheckpointError:
    """Turn the failure of a load into an error that says what the file is."""
    if kind := foreign_format(path):
        return CheckpointError(f'checkpoint {path} was not loaded, it is {kind}')
    names = [] if trust else culprits(error, path)
    if names:
        return UnsafeCheckpointError(path, names)
    return CheckpointError(
        f'checkpoint {path} ({path.stat().st_size} bytes) cannot be read; it is '
        f'damaged, truncated, or not a torch.save file ({_first_line(error)})'
    )


def culprits(error: Exception, path: Path | None = None) -> list[str]:
    """List the names in a rejected file that `weights_only=True` does not allow.

    Args:
        error (Exception): Error of the safe load.
        path (Path, optional): The file, if it is at hand: then all names are found.

    Returns:
        list[str]: Full names, sorted; empty if the file is damaged or torch cannot list
        its content.
    """
    names = []
    if path is not None:
        with suppress(Exception):  # the old format, or any error of a broken file
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    if names or not isinstance(error, pickle.UnpicklingError):
        return sorted(names)
    found = {a or b for a, b in _NAMED.findall(str(error))}
    return sorted(name if '.' in name else f'builtins.{name}' for name in found)


def _is_set(variable: str) -> bool:
    """Whether a switch of torch is on; it knows these four words."""
    return os.environ.get(variable, '') in ('1', 'y', 'yes', 'true')


@contextmanager
def _without(variable: str, remove: bool) -> Iterator[None]:
    """Remove a variable from the environment within the block, if asked to."""
    value = os.environ.pop(variable, None) if remove else None
    try:
        yield
    finally:
        if value is not None:
            os.environ[variable] = value


def _first_line(error: Exception) -> str:
    """Return the class and the first line of the message of an exception.

    Without torch's advice to load unsafely, which does not help with a damaged file.
    """
    message = str(error).rpartition('WeightsUnpickler error: ')[2]
    lines = message.partition('In PyTorch 2.6')[0].strip().splitlines()
    return f'{type(error).__name__}: {lines[0]}' if lines else type(error).__name__


def save_checkpoint_atomic(obj: object, path: str | Path) -> None:
    """Write a checkpoint atomically and durably.

    Neither a crash nor a power failure leaves a damaged file under this name.

    Args:
        obj (object): Anything `torch.save` accepts.
        path (str | Path): The file; missing folders are created.
    """
    with atomic_path(path, durable=True) as partial:
        torch.save(obj, partial)


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open('rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
