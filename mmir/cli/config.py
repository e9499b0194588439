"""Overriding config keys from the command line."""

import difflib
import inspect
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from mmir.utils.errors import UserError

_ALIKE = 0.8  # difflib cutoff: one letter wrong, missing or added in a short word


def apply_options(cfg: Config, options: dict[str, Any]) -> None:
    """Merge `--cfg-options` into a config, in place.

    All parts of a key but the last must exist. A new last part is set unless it looks
    like a misspelling of an existing one; whether it is valid is left to the class that
    receives it. `data_root` also replaces the folder in all paths below it, whereas
    mmengine would only change the variable.

    Args:
        cfg (Config): The config.
        options (dict): Values by dotted keys; list items are addressed by index.

    Raises:
        UserError: A key does not exist; suggests similar ones.
    """
    for key in options:
        _check_key(cfg, key)
    former = cfg.get('data_root')
    cfg.merge_from_dict(options)
    if 'data_root' in options and former:
        cfg._cfg_dict = _move(cfg._cfg_dict, former.rstrip('/'), cfg.data_root)


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
