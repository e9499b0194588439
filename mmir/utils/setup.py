"""`register_all_modules`, as in the hosts."""

import logging
from importlib import import_module

from mmengine.logging import print_log


def register_all_modules(init_default_scope: bool = False) -> None:
    """Import every part of mmir and log those that cannot be imported.

    Configs do not need it: a type `mmir.X` imports its part on demand. mmengine's
    `hub.get_model` and scripts written for the hosts call it.

    Args:
        init_default_scope (bool): Whether to make `mmir` the default scope. Defaults to
            False, since the shipped configs keep the scope of their host.
    """
    from mmir import INACTIVE
    from mmir.registry import PARTS, why_off

    for part, error in INACTIVE.items():
        print_log(f'mmir.{part} is off: {error}', 'current', logging.WARNING)
    for part in PARTS:
        import_module(f'mmir.{part}')
        if PARTS[part].error:
            print_log(why_off(part), 'current', logging.WARNING)
    if init_default_scope:
        from mmengine.registry import init_default_scope as set_default_scope

        set_default_scope('mmir')
