"""Model zoo: list the shipped models, find their configs, build them."""

import difflib
import fnmatch
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.fileio import load
from torch import nn

from mmir.utils.shipped import NOT_PUBLISHED, PREFIX, resource


def zoo_root() -> Path:
    """Find the folder that holds `configs` and `model-index.yml`.

    Returns:
        Path: The checkout if mmir runs from one, else `mmir/.mim`.

    Raises:
        FileNotFoundError: The installation has neither.
    """
    return resource('model-index.yml').parent


def _models() -> dict[str, dict[str, Any]]:
    """Read the entries of all metafiles, by name and alias."""
    root, rows = zoo_root(), {}
    for metafile in load(root / 'model-index.yml')['Import']:
        for row in load(root / metafile)['Models']:
            alias = row.get('Alias', [])
            aliases = [alias] if isinstance(alias, str) else alias
            rows.update(dict.fromkeys([row['Name'], *aliases], row))
    return rows


def list_models(pattern: str = '*') -> list[str]:
    """List the names of the shipped models.

    Args:
        pattern (str): Shell-style pattern for the names, such as `yolo*`.

    Returns:
        list[str]: Names and aliases, sorted.
    """
    return sorted(fnmatch.filter(_models(), pattern))


def find_config(name: str) -> Path:
    """Find the config file of a shipped model.

    Args:
        name (str): Name or alias, see :func:`list_models`.

    Returns:
        Path: Config file.

    Raises:
        KeyError: Unknown name; the message suggests the closest ones.
    """
    rows = _models()
    if name not in rows:
        near = difflib.get_close_matches(name, rows, n=3) or sorted(rows)
        raise KeyError(f'no model {name}; did you mean one of {near}?')
    return zoo_root() / rows[name]['Config']


def get_model(
    name: str, checkpoint: str | None = None, device: str = 'cpu'
) -> nn.Module:
    """Build a shipped model, ready for inference.

    Args:
        name (str): A name or alias of :func:`list_models`.
        checkpoint (str, optional): File or address of its weights, loaded without
            running code and with every key required to fit. Without it the weights are
            the shipped ones, if there are any, else those of a fresh initialization, in
            which a pretrained backbone is read from the file that the config names.
            mmir's own configs download nothing.
        device (str): Where to put it.

    Returns:
        nn.Module: The model in evaluation mode, with its config as attribute `cfg`.

    Raises:
        KeyError: Unknown name.
        FileNotFoundError: The file of the pretrained backbone is missing.
        RuntimeError: The checkpoint does not fit, or could run code.
    """
    from mmengine.registry import MODELS, init_default_scope
    from mmengine.runner import load_checkpoint

    cfg = Config.fromfile(find_config(name))
    weights = _models()[name].get('Weights', NOT_PUBLISHED)
    if checkpoint is None and weights.startswith(PREFIX) and weights != NOT_PUBLISHED:
        checkpoint = weights
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    model = MODELS.build(cfg.model)
    if checkpoint is None:
        model.init_weights()
    else:
        load_checkpoint(model, checkpoint, map_location='cpu', strict=True)
    model.cfg = cfg
    return model.to(device).eval()
