"""Overriding config keys from the command line."""

import difflib
import inspect
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmir.testing.rescale import drop_late_schedulers, scale_training
from mmir.utils.errors import UserError

_ALIKE = 0.8  # difflib cutoff: one letter wrong, missing or added in a short word


def apply_options(cfg: Config, options: dict[str, Any]) -> None:
    """Merge `--cfg-options` into a config, in place.

    All parts of a key but the last must exist. A new last part is set unless it looks
    like a misspelling of an existing one; whether it is valid is left to the class that
    receives it.

    mmengine would only change the variable where a config file computed others from it.
    Here `data_root` also replaces the folder in all paths below it, the number of
    epochs (`max_epochs`, `train_cfg.max_epochs`, `train_cfg.max_iters`) scales all that
    depends on it, and any other variable also sets the keys of its name that had its
    value. Other options win over what these change.

    Args:
        cfg (Config): The config.
        options (dict): Values by dotted keys; list items are addressed by index.

    Raises:
        UserError: A key does not exist (suggests similar ones), or a number of epochs
            is not a positive integer.
    """
    for key in options:
        _check_key(cfg, key)
    _set_length(cfg, options)
    for key, value in options.items():
        _set_namesakes(cfg, key, value)
    former = cfg.get('data_root')
    cfg.merge_from_dict(options)
    if 'data_root' in options and former:
        cfg._cfg_dict = _move(cfg._cfg_dict, former.rstrip('/'), cfg.data_root)
    if options.keys() & {*LENGTHS}:
        drop_late_schedulers(cfg)  # only now, since options name them by index


LENGTHS = ('max_epochs', 'train_cfg.max_epochs', 'train_cfg.max_iters')
"""Options that set how long a training lasts."""


def _set_length(cfg: Config, options: dict[str, Any]) -> None:
    """Scale a training to the number of epochs in the options, in place; log what."""
    for key in LENGTHS:
        unit = key.rpartition('.')[2]
        if key not in options or not (cfg.get('train_cfg') or {}).get(unit):
            continue
        length = options[key]
        if not isinstance(length, int) or length < 1:
            raise UserError(f'--cfg-options {key}={length}: set a positive integer')
        changed, left = scale_training(cfg, length)
        _log(f'{key}={length}: scaled {", ".join(changed) or "nothing else"}')
        if left:
            _log(f'{key}={length}: left as they are: {", ".join(left)}')


def _set_namesakes(cfg: Config, key: str, value: Any) -> None:
    """Set the keys that a variable of the config file has given its value."""
    if key in ('data_root', *LENGTHS) or key not in cfg or isinstance(cfg[key], dict):
        return
    if key in inspect.signature(Runner).parameters:
        return
    same = [
        place
        for place in _places(cfg._cfg_dict, key, '')
        if _at(cfg, place) == cfg[key]
    ]
    if same:
        cfg.merge_from_dict(dict.fromkeys(same, value))
        _log(f'{key}={value}: set {", ".join(same)}')
    else:
        _log(
            f'{key}={value}: a variable of the config file; keys that were computed '
            'from it keep their value. Set those instead'
        )


def _at(cfg: Config, place: str) -> Any:
    """Return the value of a dotted key."""
    node: Any = cfg
    for part in place.split('.'):
        node = _child(node, part)
    return node


def _log(message: str) -> None:
    """Log or print a message."""
    print_log(f'--cfg-options {message}', logger='current')


def complete_loaders(cfg: Config) -> None:
    """Drop options of data loaders that torch refuses without worker processes.

    Args:
        cfg (Config): The config, changed in place.
    """
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loaders = cfg.get(name)
        for loader in loaders if isinstance(loaders, list | tuple) else [loaders]:
            if loader and not loader.get('num_workers', 0):
                for option in ('persistent_workers', 'prefetch_factor'):
                    loader.pop(option, None)


def _move(node: Any, former: str, new: str) -> Any:
    """Replace a leading folder in all strings of a nested config."""
    if isinstance(node, dict):
        for key, value in node.items():
            node[key] = _move(value, former, new)
    elif isinstance(node, (list, tuple)):
        return type(node)(_move(value, former, new) for value in node)
    elif isinstance(node, str) and f'{node}/'.startswith(f'{former}/'):
        return new.rstrip('/') + node[len(former) :]
    return node


def _check_key(cfg: Config, key: str) -> None:
    """Raise if a key does not exist or looks misspelled."""
    *parents, last = key.split('.')
    node: Any = cfg
    for depth, part in enumerate(parents):
        known = _names(node)
        if part not in known:
            near = difflib.get_close_matches(part, known) or sorted(known)
            raise _unknown(key, part, '.'.join(parents[:depth]), near)
        node = _child(node, part)
    known = _names(node)
    # mmengine reads some keys, such as load_from, even if a config does not have them
    taken = known if parents else known | {*inspect.signature(Runner).parameters}
    if last in taken:
        return
    near = difflib.get_close_matches(last, taken, cutoff=_ALIKE)
    # at the top level mmengine silently accepts any key
    near += [] if parents else list(_places(cfg._cfg_dict, last, ''))
    if near or not isinstance(node, (dict, Config)):
        raise _unknown(key, last, '.'.join(parents), near or sorted(known))


def _names(node: Any) -> set[str]:
    """Keys or indices of a node of a config."""
    if isinstance(node, (list, tuple)):
        return {str(i) for i in range(len(node))}
    return set(node.keys()) if isinstance(node, (dict, Config)) else set()


def _child(node: Any, name: str) -> Any:
    """Return a child of a node by key or index."""
    return node[int(name)] if isinstance(node, (list, tuple)) else node[name]


def _places(node: Any, name: str, where: str) -> Iterator[str]:
    """Yield the dotted keys below the top level that end in a name."""
    for key in sorted(_names(node)):
        if where and key == name:
            yield f'{where}.{key}'
        yield from _places(_child(node, key), name, f'{where}.{key}' if where else key)


def _unknown(key: str, part: str, where: str, near: list[str]) -> UserError:
    """Create the error for an unknown key."""
    place = f'in {where}' if where else 'at the top of the config'
    hint = f'did you mean {" or ".join(near[:5])}?' if near else 'it is a plain value'
    return UserError(f'--cfg-options {key}: no key {part} {place}; {hint}')
