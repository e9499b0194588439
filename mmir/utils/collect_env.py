"""Environment report: what is installed, which parts of mmir are off, and why.

Run `python -m mmir.utils.collect_env` and paste the output into a bug report.
"""

import os
import platform
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, packages_distributions, version

from mmengine.utils import digit_version

MODULES = (
    'torch',
    'torchvision',
    'numpy',
    'cv2',
    'setuptools',
    'mmengine',
    'mmcv',
    'mmdet',
    'mmseg',
    'mmpretrain',
)
OLDEST = {'torch': '2.6'}
"""Oldest supported releases."""


def distribution(module: str, owners: dict[str, list[str]]) -> str:
    """Name and version of the distribution that provides a module.

    Args:
        module (str): Top-level module.
        owners (dict): Module -> distributions, from `packages_distributions`. Each host
            is published under two distribution names.

    Returns:
        str: `name version`, or 'not installed'. If several are installed, which
        overwrite each other, they are joined by ' AND '.
    """
    found = []
    for name in sorted(set(owners.get(module, []))):
        try:
            found.append(f'{name} {version(name)}{_too_old(module, version(name))}')
        except PackageNotFoundError:
            continue
    return ' AND '.join(found) or 'not installed'


def _too_old(module: str, installed: str) -> str:
    """Note for a release that is older than supported, or an empty string."""
    oldest = OLDEST.get(module)
    if oldest is None or digit_version(installed) >= digit_version(oldest):
        return ''
    return f' (too old: {oldest} or newer is needed)'


def operators() -> str:
    """Source of `mmcv.ops`: compiled, the substitute, or none."""
    import mmir

    if 'compat' in mmir.INACTIVE:
        return f'none: mmir.compat is off ({mmir.INACTIVE["compat"]})'
    from mmir.compat import ops_kind

    return str(ops_kind())


def devices() -> str:
    """List the devices torch sees."""
    import torch

    threads = f'cpu ({os.cpu_count()} cores, {torch.get_num_threads()} threads)'
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return ', '.join([threads, *(torch.cuda.get_device_name(i) for i in range(count))])


def parts() -> dict[str, str]:
    """Status of every part of mmir.

    Returns:
        dict[str, str]: Part -> 'on' or 'off: reason'.
    """
    import mmir
    from mmir.registry import PARTS, why_off

    state = dict.fromkeys(mmir.HOST_FREE, 'on')
    state.update({name: f'off: {error}' for name, error in mmir.INACTIVE.items()})
    for name, part in PARTS.items():
        import_module(f'mmir.{name}')
        state[name] = f'off: {why_off(name)}' if part.error else f'on ({part.host})'
    return state


def collect_env() -> dict[str, str]:
    """Collect the report.

    Returns:
        dict[str, str]: Topic -> line of the report.
    """
    import mmir

    owners = dict(packages_distributions())
    report = {
        'platform': platform.platform(),
        'python': sys.version.split()[0],
        'mmir': f'{mmir.__version__} ({os.path.dirname(mmir.__file__)})',
    }
    report.update({module: distribution(module, owners) for module in MODULES})
    report['operators of mmcv'] = operators()
    report['devices'] = devices()
    report.update({f'mmir.{name}': state for name, state in parts().items()})
    return report


if __name__ == '__main__':
    for key, value in collect_env().items():
        print(f'{key}: {value}')
