"""Checks of a config before anything is built from it."""

import difflib
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine import registry as root
from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.runner.loops import TestLoop, ValLoop

from mmir.utils.flir_layout import missing_flir_message

# What the runner and the tools read at the top of a config besides the arguments of
# `Runner`. Anything else there is a variable that the file used up when it was read.
_READ_AT_TOP = {
    'auto_scale_lr',
    'compile',
    'custom_imports',
    'data_root',
    'demo',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'runner_type',
    'strategy',
    'sync_bn',
    'tta_model',
    'tta_pipeline',
}
# What takes the keys of a dict that has no `type` (or a default one).
_TAKERS = {
    '': (Runner.__init__,),
    'randomness': (Runner.set_randomness,),
    'train_cfg': (EpochBasedTrainLoop, IterBasedTrainLoop),
    'val_cfg': (ValLoop,),
    'test_cfg': (TestLoop,),
}

WAYS_ON = (
    'Two ways to go on: put the data there (or name its folder: --cfg-options '
    'data_root=FOLDER), or add --demo to run the same config, made small, on synthetic '
    'images.'
)


class UserError(Exception):
    """Something the user can put right; its message says what and how."""


def find_type(name: str, scope: str | None) -> Any:
    """Look a type name up in every registry, as a config of that scope would.

    Args:
        name (str): Value of a `type` key.
        scope (str, optional): The config's `default_scope`.

    Returns:
        The class or function, or None if no registry has it.
    """
    for value in vars(root).values():
        if isinstance(value, Registry) and value.parent is None:
            found = value.get(f'{scope}.{name}') if scope and '.' not in name else None
            found = found or value.get(name)
            if found is not None:
                return found
    return None


def apply_options(cfg: Config, options: dict[str, Any]) -> None:
    """Merge `--cfg-options` into a config, in place.

    A key must exist, or be one that the class named by the `type` beside it takes.
    `data_root` also replaces the folder in every path below it; mmengine by itself
    would change nothing but the variable.

    Args:
        cfg (Config): The config.
        options (dict): Values by dotted keys; list items by their number.

    Raises:
        UserError: For a key that nothing reads, with the nearest known ones.
    """
    for key in options:
        _require_known(cfg, key)
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


def _require_known(cfg: Config, key: str) -> None:
    """Raise unless something reads the key of an option."""
    *parents, last = key.split('.')
    node: Any = cfg
    for depth, part in enumerate(parents):
        node = _step(node, part, '.'.join(parents[:depth]), key)
    where = '.'.join(parents)
    if key.split('.')[0] in cfg:
        _require_read(cfg, key.split('.')[0])
    known = _names(node)
    if last in known:
        return
    taken = _taken_names(cfg, where, node)
    if taken is not None and last not in taken:
        raise _unknown(key, last, where, {*known, *taken})


def _step(node: Any, part: str, where: str, key: str) -> Any:
    """Go one key down on the way to the last one."""
    if part not in _names(node):
        raise _unknown(key, part, where, _names(node))
    return node[int(part)] if isinstance(node, (list, tuple)) else node[part]


def _names(node: Any) -> set[str]:
    """List what a node of a config can be indexed by."""
    if isinstance(node, (list, tuple)):
        return {str(i) for i in range(len(node))}
    return set(node.keys()) if isinstance(node, (dict, Config)) else set()


def _require_read(cfg: Config, name: str) -> None:
    """Raise if a key at the top of a config is only a variable of the file."""
    if name not in _READ_AT_TOP and name not in _parameters(Runner.__init__):
        places = ', '.join(_places(cfg._cfg_dict, name, ''))
        raise UserError(
            f'--cfg-options {name}: it is a variable of the config file, used up when '
            f'the file was read. Override the keys it went into: {places or "?"}'
        )


def _places(node: Any, name: str, where: str) -> Iterator[str]:
    """Yield the dotted keys below the top that end in a name."""
    for key in sorted(_names(node)):
        if where and key == name:
            yield f'{where}.{key}'
        child = node[int(key)] if isinstance(node, (list, tuple)) else node[key]
        yield from _places(child, name, f'{where}.{key}' if where else key)


def _taken_names(cfg: Config, where: str, node: Any) -> set[str] | None:
    """List the new keys a dict may get; None for any."""
    if not isinstance(node, (dict, Config)):
        return set()
    takers: Sequence[Any] = _TAKERS.get(where, ())
    if where and 'type' in node:
        found = node['type']
        if isinstance(found, str):
            found = find_type(found, cfg.get('default_scope'))
        if found is None or not inspect.isclass(found):
            return None  # a function that builds, such as `mmir.factorized`
        takers = [c.__init__ for c in found.__mro__ if '__init__' in vars(c)]
    names = {name for taker in takers for name in _parameters(taker)}
    return names | _READ_AT_TOP if not where else names


def _parameters(taker: Any) -> set[str]:
    """Name the parameters of a function or class that can be given by name."""
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    parameters = inspect.signature(taker).parameters.values()
    return {p.name for p in parameters if p.kind not in variadic} - {'self'}


def _unknown(key: str, part: str, where: str, known: set[str]) -> UserError:
    """Make the error for an unknown key, with the nearest ones."""
    near = difflib.get_close_matches(part, known, n=3)
    place = f'in {where}' if where else 'at the top of the config'
    hint = f'did you mean {" or ".join(near)}?' if near else f'known: {sorted(known)}'
    if not known:
        hint = f'{where} is a plain value'
    return UserError(f'--cfg-options {key}: no key {part} {place}; {hint}')


def check_data(cfg: Config, keys: Sequence[str]) -> None:
    """Check that the folders and annotation files of a config are there.

    Args:
        cfg (Config): The config.
        keys (sequence of str): Keys of the dataloaders and evaluators that will run.

    Raises:
        UserError: With every missing path, the key that names it, where the data comes
            from if that is known, and the ways to go on.
    """
    missing, advice = [], WAYS_ON
    for key in keys:
        for where, node in _with_data(cfg.get(key), key):
            lines = [f'  {where}.{line}' for line in _missing(node)]
            missing += lines
            if lines and str(node.get('type')).endswith('FLIRDataset'):
                advice = missing_flir_message(node.get('data_root') or '.')
    if missing:
        lines = ['the data of this config is not there:', *missing, advice]
        raise UserError('\n'.join(lines))


def _with_data(node: Any, where: str) -> Iterator[tuple[str, dict]]:
    """Walk to the dicts that name data, through wrappers of datasets."""
    if isinstance(node, (list, tuple)):
        node = dict(enumerate(node))
    if not isinstance(node, dict):
        return
    if node.get('data_root') or node.get('ann_file'):
        yield where, node
    for key, value in node.items():
        yield from _with_data(value, f'{where}.{key}')


def _missing(node: dict) -> Iterator[str]:
    """Yield a line for each path of one dataset or metric that is not there."""
    folder = node.get('data_root') or ''
    if '://' in folder:
        return
    if folder and not Path(folder).is_dir():
        yield f'data_root: no folder {folder}'
    files = node.get('ann_file') or []
    for file in [files] if isinstance(files, str) else files:
        if '://' not in file and not Path(folder, file).exists():
            yield f'ann_file: no file {Path(folder, file)}'
    prefix = node.get('data_prefix') or {}
    for key, value in ({'': prefix} if isinstance(prefix, str) else prefix).items():
        if value and '://' not in value and not Path(folder, value).is_dir():
            name = f'data_prefix.{key}' if key else 'data_prefix'
            yield f'{name}: no folder {Path(folder, value)}'
