"""What makes today's hosts work on today's torch without a compiler.

The only part of mmir that knows versions of its hosts. Every shim is a file of its own
that says why it exists, for which host, and when to delete it:

* `mmcv_ext`, found through `ops_finder`: the module `mmcv._ext` where mmcv has no
  compiled operators. `ops` holds the operators.
* `safe_globals`: what a training checkpoint needs to load with `weights_only=True`.

Nothing here imports mmdet, mmseg, mmpretrain or `mmcv.ops` when it is imported.
"""

from . import ops_finder, safe_globals
from .ops_finder import ops_kind

__all__ = ['activate', 'ops_kind']


def activate() -> None:
    """Switch every shim on that this environment needs; doing so twice is harmless.

    It must run before the first import of `mmcv.ops` (so before `mmdet.models`).
    """
    ops_finder.install()
    safe_globals.install()
