"""Child registries of scope `mmir`, and the host each part of mmir needs.

`type='mmir.X'` in a config of any scope makes mmengine import this module and `mmir`.

- Host-free classes live in mmengine's root registries and are found through the parent.
- Host-bound classes live here. Their part is imported when one of its names is looked
  up; which names a part registers is read from its source, without importing it.

A part whose host is missing or broken still imports: each of its public names becomes a
placeholder that raises the reason and the remedy when it is used. Errors in mmir's own
code are raised unchanged.

To add a part: a row in `PARTS`, and a package `mmir/<part>` that calls `fail_part` when
its imports fail, as `mmir/det/__init__.py` does.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from traceback import walk_tb
from typing import NoReturn

from mmengine import registry as root
from mmengine.registry import DefaultScope, Registry

__all__ = [
    'DATASETS',
    'DATA_SAMPLERS',
    'EVALUATOR',
    'FUNCTIONS',
    'HOOKS',
    'INFERENCERS',
    'LOG_PROCESSORS',
    'LOOPS',
    'METRICS',
    'MODELS',
    'MODEL_WRAPPERS',
    'OPTIMIZERS',
    'OPTIM_WRAPPERS',
    'OPTIM_WRAPPER_CONSTRUCTORS',
    'PARAM_SCHEDULERS',
    'PARTS',
    'RUNNERS',
    'RUNNER_CONSTRUCTORS',
    'STRATEGIES',
    'TASK_UTILS',
    'TRANSFORMS',
    'VISBACKENDS',
    'VISUALIZERS',
    'WEIGHT_INITIALIZERS',
    'Part',
    'fail_part',
    'is_own_error',
    'registered_names',
    'why_off',
]


_HERE = Path(__file__).parent


@dataclass
class Part:
    """Part of mmir that depends on one host.

    Attributes:
        package (str): Name of its package in mmir.
        host (str): Top-level module of the host.
        project (str): Name of the host's project, for messages.
        error (Exception, optional): Why the part is off, after a failed import.
    """

    package: str
    host: str
    project: str
    error: Exception | None = None

    @cached_property
    def names(self) -> dict[str, set[str]]:
        """dict[str, set[str]]: Names the part registers, by registry."""
        return registered_names(_HERE / self.package)

    @cached_property
    def public(self) -> list[str]:
        """list[str]: `__all__` of the package."""
        tree = ast.parse((_HERE / self.package / '__init__.py').read_text('utf-8'))
        for node in tree.body:
            if (
                isinstance(node, ast.Assign)
                and ast.unparse(node.targets[0]) == '__all__'
            ):
                return list(ast.literal_eval(node.value))
        return []


def registered_names(folder: Path) -> dict[str, set[str]]:
    """Find the names a package registers by parsing its source.

    These are the classes and functions decorated with `@X.register_module()`, under
    their own or the given names, where `X` is imported from `mmir.registry`.

    Args:
        folder (Path): Folder of the package; subfolders are included.

    Returns:
        dict[str, set[str]]: Registered names by registry, such as 'model'.

    Raises:
        SyntaxError: A file is not valid Python.
    """
    found: dict[str, set[str]] = {}
    for file in sorted(folder.rglob('*.py')):
        source = file.read_text('utf-8')
        if 'register_module' in source:
            for registry, name in _registrations(ast.parse(source, str(file))):
                found.setdefault(registry, set()).add(name)
    return found


def _registrations(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield (registry, name) for the decorated classes and functions of a module."""
    ours = {
        alias.asname or alias.name: globals()[alias.name].name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == __name__
        for alias in node.names
        if isinstance(globals().get(alias.name), Registry)
    }
    for node in ast.walk(tree):
        for call in getattr(node, 'decorator_list', ()):
            if not isinstance(call, ast.Call):
                continue
            registry, _, method = ast.unparse(call.func).rpartition('.')
            if method == 'register_module' and registry in ours:
                named = [k.value for k in call.keywords if k.arg == 'name']
                given = [*call.args, *named]
                names = ast.literal_eval(given[0]) if given else node.name
                names = [names] if isinstance(names, str) else names
                yield from ((ours[registry], name) for name in names)


PARTS = {
    part.package: part
    for part in (
        Part('det', host='mmdet', project='mmdetection'),
        Part('seg', host='mmseg', project='mmsegmentation'),
        Part('reid', host='mmpretrain', project='mmpretrain'),
    )
}
"""Host-bound parts by package name."""


class _Child(Registry):
    """Child registry of scope `mmir`, which also finds the names of the hosts.

    The scope is `mmir` inside a config loaded by `_base_='mmir::...'` and in a host's
    Inferencer called with `scope='mmir'`, where configs still name the host's types
    without a prefix.
    """

    def get(self, key: str) -> type | None:
        """Get a registered class or function; see mmengine's `Registry.get`.

        Args:
            key (str): Name, with or without a scope.

        Returns:
            type, optional: Object registered under that name, or None.

        Raises:
            KeyError: A name without scope is registered by several hosts.
        """
        # mmengine would not look up `mmir.X` in the parent, where host-free types are.
        name = key.removeprefix('mmir.')
        for part, row in PARTS.items():
            # only import the host that is needed: each takes seconds
            if name in row.names.get(self.name, ()):
                import_module(f'mmir.{part}')
        # a name may hold the scope of a host, which would be asked in our place
        found = self._module_dict.get(name) or super().get(name)
        scope = DefaultScope.get_current_instance()
        if found or '.' in key or scope is None or scope.scope_name != 'mmir':
            return found
        return self._from_hosts(key)

    def _from_hosts(self, key: str) -> type | None:
        """Look up a name without scope in the hosts, in the imported ones if any."""
        hosts = [part.host for part in PARTS.values()]
        if not any(host in sys.modules for host in hosts):
            for part in PARTS:
                import_module(f'mmir.{part}')
        found = {f'{host}.{key}' for host in hosts if host in sys.modules}
        named = {name: self.root.get(name) for name in sorted(found)}
        named = {name: value for name, value in named.items() if value is not None}
        if len(set(named.values())) > 1:
            raise KeyError(f'{key} is ambiguous in scope mmir, write one of {[*named]}')
        return next(iter(named.values()), None)


def _child(parent: Registry) -> Registry:
    """Create the child of a root registry; its parts are imported on demand."""
    # With empty `locations` mmengine would call `mmir.utils.register_all_modules`.
    return _Child(parent.name, parent=parent, scope='mmir', locations=['mmir'])


DATASETS = _child(root.DATASETS)
DATA_SAMPLERS = _child(root.DATA_SAMPLERS)
EVALUATOR = _child(root.EVALUATOR)
FUNCTIONS = _child(root.FUNCTIONS)
HOOKS = _child(root.HOOKS)
INFERENCERS = _child(root.INFERENCERS)
LOG_PROCESSORS = _child(root.LOG_PROCESSORS)
LOOPS = _child(root.LOOPS)
METRICS = _child(root.METRICS)
MODELS = _child(root.MODELS)
MODEL_WRAPPERS = _child(root.MODEL_WRAPPERS)
OPTIMIZERS = _child(root.OPTIMIZERS)
OPTIM_WRAPPERS = _child(root.OPTIM_WRAPPERS)
OPTIM_WRAPPER_CONSTRUCTORS = _child(root.OPTIM_WRAPPER_CONSTRUCTORS)
PARAM_SCHEDULERS = _child(root.PARAM_SCHEDULERS)
RUNNERS = _child(root.RUNNERS)
RUNNER_CONSTRUCTORS = _child(root.RUNNER_CONSTRUCTORS)
STRATEGIES = _child(root.STRATEGIES)
TASK_UTILS = _child(root.TASK_UTILS)
TRANSFORMS = _child(root.TRANSFORMS)
VISBACKENDS = _child(root.VISBACKENDS)
VISUALIZERS = _child(root.VISUALIZERS)
WEIGHT_INITIALIZERS = _child(root.WEIGHT_INITIALIZERS)

_BY_NAME = {
    registry.name: registry
    for registry in tuple(globals().values())
    if isinstance(registry, _Child)
}


def why_off(part: str) -> str:
    """Explain why a part is off and how to fix it.

    Args:
        part (str): Key of :data:`PARTS` whose `error` is set.

    Returns:
        str: One or two sentences for an error message.
    """
    row = PARTS[part]
    remedy = f'`pip install "openmmir[{part}]"`'
    if not _installed(row.host):
        return f'mmir.{part} needs {row.project}, which is not installed: {remedy}'
    return (
        f'mmir.{part} needs {row.project}; {row.host} is installed but mmir.{part} '
        f'cannot be imported with it ({type(row.error).__name__}: {row.error}). '
        f'{remedy} installs releases that fit together'
    )


def _installed(module: str) -> bool:
    """Check whether a top-level module can be found, without importing it."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # blocked, or a stub without a spec
        return False


def _placeholder(name: str, part: str) -> type:
    """Create a class of that name that raises the part's error when instantiated."""

    def __init__(self: object, *args: object, **kwargs: object) -> NoReturn:
        raise ImportError(f'{name}: {why_off(part)}') from PARTS[part].error

    doc = f'Placeholder for `mmir.{part}.{name}`, which is not available here.'
    return type(
        name, (), {'__init__': __init__, '__doc__': doc, '__module__': __name__}
    )


def is_own_error(error: Exception) -> bool:
    """Check whether the import of a part failed in mmir's own code, not in a host.

    These errors are mmir's own:

    - a module or name of mmir cannot be imported;
    - a file of mmir has a syntax error;
    - mmir itself, or a function it calls, raises (such as a name registered twice).

    Anything else is a failed import from outside.

    Args:
        error (Exception): The exception caught around the import.

    Returns:
        bool: Whether to raise it instead of continuing without the part.
    """
    if isinstance(error, ImportError) and error.name:
        return error.name.partition('.')[0] == 'mmir'
    if isinstance(error, SyntaxError) and error.filename:
        return _HERE in Path(error.filename).parents
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    ours = [_top(frame.f_globals) == 'mmir' for frame in frames]
    after = frames[len(ours) - ours[::-1].index(True) :] if any(ours) else frames
    # module-level code; frames of the import machinery may come before it
    imported = [
        f.f_code.co_name == '<module>' or _top(f.f_globals) == 'importlib'
        for f in after
    ]
    return not any(imported[:1])


def _top(names: dict) -> str:
    """Top-level package of the module with these globals."""
    return str(names.get('__name__')).partition('.')[0]


def fail_part(part: str, error: Exception) -> dict[str, type]:
    """Replace a part whose host cannot be imported by placeholders.

    Args:
        part (str): Key of :data:`PARTS`.
        error (Exception): What the import raised; stored, and chained to what the
            placeholders raise.

    Returns:
        dict[str, type]: Placeholder for every public name of the part. Registered names
        get their placeholder in the registry, which overwrites whatever was registered
        before the import failed.

    Raises:
        Exception: `error` itself if mmir's own code is the cause. A second attempt
            raises it again instead of complaining about duplicate registrations.
    """
    row = PARTS[part]
    row.error = row.error or error
    if is_own_error(row.error):
        raise row.error
    registered = {name for names in row.names.values() for name in names}
    placeholders = {
        name: _placeholder(name, part) for name in sorted(registered | {*row.public})
    }
    for registry, names in row.names.items():
        for name in names:
            _BY_NAME[registry].register_module(
                name, force=True, module=placeholders[name]
            )
    return placeholders
