"""mmir: infrared and RGB+infrared vision as a plugin of the OpenMMLab family.

Importing mmir

- registers the host-free components in mmengine's registries;
- makes `mmir::...` configs known to mmengine;
- installs the operators of `mmir.compat` where mmcv has no compiled ones;
- makes mmengine and the hosts load checkpoints without running code.

It loads no host (mmdet, mmseg, mmpretrain). If mmengine imports, so does mmir: a part
that lacks a library is switched off with a warning, because mmengine hides every
ImportError from `custom_imports` behind advice about PYTHONPATH. Errors in mmir's own
code are raised.
"""

from importlib import import_module
from warnings import warn

try:
    from mmengine.config.utils import MODULE2PACKAGE
except ModuleNotFoundError as error:
    if error.name != 'mmengine':
        raise
    raise ImportError(
        'mmir needs mmengine and mmcv, which it does not install by itself because '
        'they ship under two names: `pip install "openmmir[onedl]"` for the maintained '
        'releases or `pip install "openmmir[classic]"` for the classic ones'
    ) from error

from .registry import is_own_error
from .version import __version__

__all__ = ['HOST_FREE', 'INACTIVE', '__version__']

# Without this entry mmengine rejects `mmir::` configs, `get_config` and Inferencers by
# name. The value is the module, not the distribution: mmengine finds the folder by it.
MODULE2PACKAGE.setdefault('mmir', 'mmir')

HOST_FREE = (
    'compat',
    'utils.host_loading',
    'utils.shipped',
    'transforms',
    'adapters',
    'tensorfact',
    'peft',
    'ivtuning',
    'fusion',
    'layers',
    'engine',
    'evaluation',
    'visualization',
)
"""Parts imported here; the substitute for mmcv's operators has to come first."""

INACTIVE: dict[str, Exception] = {}
"""Host-free parts that failed to import, with the error."""


def _switch_on(part: str) -> None:
    """Import a host-free part; if a dependency fails, record the error and warn."""
    try:
        module = import_module(f'mmir.{part}')
        if part == 'compat':
            module.activate()
    except Exception as error:
        if is_own_error(error):
            raise
        INACTIVE[part] = error
        warn(f'mmir.{part} is off: {type(error).__name__}: {error}', stacklevel=3)


for _part in HOST_FREE:
    _switch_on(_part)
