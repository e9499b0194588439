"""What is installed, which parts of mmir are active here, and why others are not.

Run `python -m mmir.utils.collect_env` and put the output into a bug report.
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
"""Oldest release that works."""


def distribution(module: str, owners: dict[str, list[str]]) -> str:
    """Name and version of what a module was installed from.

    Args:
        module (str): Top-level module.
        owners (dict): Distributions of every module, as `packages_distributions` lists
            them. The hosts have two distribution names each.

    Returns:
        str: `name version`, several joined by ' AND ' (they overwrite each other), or
        'not installed'.
    """
    found = []
    for name in sorted(set(owners.get(module, []))):
        try:
            found.append(f'{name} {version(name)}{_too_old(module, version(name))}')
        except PackageNotFoundError:
            continue
    return ' AND '.join(found) or 'not installed'


def _too_old(module: str, installed: str) -> str:
    """Say what is needed where an older release is installed."""
    oldest = OLDEST.get(module)
    if oldest is None or digit_version(installed) >= digit_version(oldest):
        return ''
    return f' (too old: {oldest} or newer is needed)'


def operators() -> str:
    """Tell where `mmcv.ops` comes from: compiled, the substitute, or nowhere."""
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
    """Tell of every part of mmir whether it is on, and why not.

    Returns:
        dict[str, str]: 'on' or 'off: reason' by the name of the part.
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
        dict[str, str]: Lines of the report by what they are about.
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
