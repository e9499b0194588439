"""Checkpoints of the hosts: mmengine's `CheckpointLoader` loads as mmir does.

All of mmengine, mmdet, mmseg and mmpretrain load checkpoints through this class:
Inferencers, `init_detector`, `init_model`, `get_model`, `load_from`, resuming,
`init_cfg` and `mmengine.runner.load_checkpoint`. After `import mmir` it

- never runs code of a file, whatever its scheme, see `mmir.utils.checkpoint`;
- reads safetensors and `file://`, and names the format of a file that is no checkpoint;
- finds the weights where others than mmengine put them, see `mmir.utils.weights`.
"""

import os
import pickle
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier, get_rank
from mmengine.runner.checkpoint import CheckpointLoader

from .checkpoint import (
    CheckpointError,
    Device,
    UnsafeCheckpointError,
    check_configs,
    checkpoints_trusted,
    culprits,
    read_checkpoint,
    safe_loads,
)
from .weights import normalized

_load_by_scheme = CheckpointLoader.load_checkpoint


@CheckpointLoader.register_scheme(prefixes=('', 'file://'), force=True)
def load_from_local(filename: str, map_location: Device = None) -> Any:
    """Read a local file for mmengine.

    Args:
        filename: Path, which may begin with `~` or `file://`.
        map_location: As in `torch.load`.

    Returns:
        Content of the file.

    Raises:
        FileNotFoundError, UnsafeCheckpointError, CheckpointError: See
            `read_checkpoint`.
    """
    return read_checkpoint(filename, map_location=map_location)


@CheckpointLoader.register_scheme(prefixes=('http://', 'https://'), force=True)
def load_from_http(url: str, map_location: Device = None) -> Any:
    """Download a file to torch's folder of checkpoints, and read it for mmengine.

    In a distributed run one process downloads, as in mmengine.

    Args:
        url: Address. A file of the same name in the folder is taken for it.
        map_location: As in `torch.load`.

    Returns:
        Content of the file.

    Raises:
        UnsafeCheckpointError, CheckpointError: See `read_checkpoint`.
        OSError: The download failed.
    """
    folder = Path(torch.hub.get_dir(), 'checkpoints')
    path = folder / Path(urlparse(url).path).name
    if get_rank() == 0:
        _download(url, path)
    barrier()
    _download(url, path)  # on machines that do not share the folder
    return read_checkpoint(path, map_location=map_location)


def _download(url: str, path: Path) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), progress=os.isatty(0))


def load_for_host(
    filename: str, map_location: Device = None, logger: Any = 'current'
) -> Any:
    """Load a checkpoint of any scheme, safely and in the form mmengine expects.

    It is `CheckpointLoader.load_checkpoint`.

    Args:
        filename: Path or address.
        map_location: As in `torch.load`.
        logger: As in mmengine.

    Returns:
        Content of the file; weights under `state_dict`, see `normalized`.

    Raises:
        FileNotFoundError: The file does not exist.
        UnsafeCheckpointError: Loading the file would run code.
        CheckpointError: The file is damaged or not a checkpoint.
    """
    filename = str(filename)
    try:
        with safe_loads():
            content = _load_by_scheme(filename, map_location, logger)
    except pickle.UnpicklingError as error:  # of another scheme than the two above
        names = culprits(error)
        if not names:
            raise CheckpointError(f'{filename} cannot be read: {error}') from error
        raise UnsafeCheckpointError(filename, names) from error
    if not checkpoints_trusted():
        check_configs(filename, content)
    return normalized(content)


CheckpointLoader.load_checkpoint = staticmethod(load_for_host)
