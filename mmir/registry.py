"""Child registries of scope `mmir`, and the host each part of mmir needs.

`type='mmir.X'` in a config of any scope makes mmengine import this module and `mmir`.
Host-free classes stand in mmengine's root registries and are found through the parent;
host-bound ones stand here, and their part is imported when one of its names is asked
for. That import must never fail (a second attempt would report 'already registered' and
hide the cause), so a part whose host is absent or broken leaves a placeholder for each
of its public names, which raises the reason and the remedy when it is used.

To add a part: a row in `PARTS`, and a package `mmir/<part>` that calls `fail_part` when
its imports fail, as `mmir/det/__init__.py` does.
"""

import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
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
    'why_off',
]


@dataclass
class Part:
    """A part of mmir that stands on one host.

    Attributes:
        host (str): Module of the host.
        project (str): The host's name for people.
        names (dict): Public names of the part by the name of the registry they stand
            in; '' for those that stand in none.
        error (Exception, optional): Why the part is off, once an import failed.
    """

    host: str
    project: str
    names: dict[str, tuple[str, ...]]
    error: Exception | None = None

    @property
    def public(self) -> list[str]:
        """list[str]: All public names, sorted."""
        return sorted(name for names in self.names.values() for name in names)


PARTS = {
    'det': Part(
        host='mmdet',
        project='mmdetection',
        names={
            'model': (
                'LateFusionDetector',
                'PairedDetDataPreprocessor',
                'YOLOv7',
                'YOLOv7Backbone',
                'YOLOv7Head',
                'YOLOv7HeadModule',
                'YOLOv7Neck',
            ),
            'task util': ('OTAAssigner',),
            'dataset': (
                'CocoSubsetDataset',
                'DroneVehicleDataset',
                'FLIRAlignedDataset',
                'FLIRDataset',
                'HITUAVDataset',
                'KAISTDataset',
                'LLVIPDataset',
                'M3FDDataset',
                'PairedMixDataset',
            ),
        },
    ),
    'seg': Part(
        host='mmseg',
        project='mmsegmentation',
        names={
            'model': ('LateFusionSegmentor', 'PairedSegDataPreprocessor'),
            'dataset': (
                'FMBDataset',
                'MFNetDataset',
                'MSRSDataset',
                'MVSegDataset',
                'PST900Dataset',
                'PairedSegDataset',
                'SemanticRTDataset',
                'VTSODDataset',
            ),
            'transform': ('LoadSaliencyMask',),
        },
    ),
    'reid': Part(
        host='mmpretrain',
        project='mmpretrain',
        names={'model': ('PairedClsDataPreprocessor',)},
    ),
}
"""The parts bound to a host, by the name of their package in mmir."""


class _Child(Registry):
    """Child registry of scope `mmir`; in that scope, names of the hosts are found too.

    The scope is `mmir` inside a config loaded by `_base_='mmir::...'` and in a host's
    Inferencer called with `scope='mmir'`, while configs name the host's types without
    a prefix.
    """

    def get(self, key: str) -> type | None:
        """Get a registered class or function; see mmengine's `Registry.get`.

        Args:
            key (str): Name, with or without a scope.

        Returns:
            type, optional: What is registered under that name, else None.

        Raises:
            KeyError: If hosts register different things under a name without scope.
        """
        # mmengine would not look for `mmir.X` in the parent, where host-free types are.
        name = key.removeprefix('mmir.')
        for part, row in PARTS.items():
            # only the host that is needed: importing one takes seconds
            if name in row.names.get(self.name, ()):
                import_module(f'mmir.{part}')
        found = super().get(name)
        scope = DefaultScope.get_current_instance()
        if found or '.' in key or scope is None or scope.scope_name != 'mmir':
            return found
        return self._from_hosts(key)

    def _from_hosts(self, key: str) -> type | None:
        """Look a name without scope up in the hosts, those in use if any is."""
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
    """Make the child of a root registry; its parts are imported when asked for."""
    # Never empty: mmengine would look for `mmir.utils.register_all_modules` instead.
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
    """Say why a part is off and what to do about it.

    Args:
        part (str): A key of :data:`PARTS` whose `error` is set.

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
    """Tell whether a top-level module can be found, without importing it."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # blocked, or a stub without a spec
        return False


def _placeholder(name: str, part: str) -> type:
    """Make a class of that name which raises the part's error when it is built."""

    def __init__(self: object, *args: object, **kwargs: object) -> NoReturn:
        raise ImportError(f'{name}: {why_off(part)}') from PARTS[part].error

    doc = f'Stands for `mmir.{part}.{name}`, which is off here.'
    return type(
        name, (), {'__init__': __init__, '__doc__': doc, '__module__': __name__}
    )


def fail_part(part: str, error: Exception) -> dict[str, type]:
    """Put placeholders in the place of a part that cannot be imported.

    Args:
        part (str): A key of :data:`PARTS`.
        error (Exception): What its import raised; kept, and chained to what the
            placeholders raise.

    Returns:
        dict[str, type]: A placeholder for every public name of the part. Those that
        stand in a registry are registered, also over what was registered before the
        import failed half-way.
    """
    PARTS[part].error = error
    placeholders = {}
    for registry, names in PARTS[part].names.items():
        for name in names:
            placeholders[name] = _placeholder(name, part)
            if registry:
                _BY_NAME[registry].register_module(
                    force=True, module=placeholders[name]
                )
    return placeholders
