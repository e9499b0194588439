"""Compatibility shims that run current hosts on current torch without a compiler.

The only part of mmir that depends on host versions. Every shim has its own file, which
says why it exists, for which host, and when to delete it:

* `mmcv_ext`, found through `ops_finder`: the module `mmcv._ext` where mmcv has no
  compiled operators. `ops` holds the operators.
* `inference_loader`: lets the hosts' Inferencers find `mmir.LoadThermalImage`.
* `multimodal`: lets mmpretrain import where `transformers` is too new for it.
* `moving_average`: keeps frozen weights exact in the moving average of mmdet 3.3.
* `hue`: lets mmcv 2.1 turn hues backwards on NumPy 2.
* `safe_globals`: lets training checkpoints load with `weights_only=True`.

Importing it does not import mmdet, mmseg, mmpretrain or `mmcv.ops`.
"""

from . import (
    hue,
    inference_loader,
    moving_average,
    multimodal,
    ops_finder,
    safe_globals,
)
from .ops_finder import ops_kind

__all__ = ['activate', 'ops_kind']


def activate() -> None:
    """Activate all shims that this environment needs. Repeated calls are harmless.

    It must run before the first import of `mmcv.ops`, hence before `mmdet.models`.
    """
    ops_finder.install()
    inference_loader.install()
    multimodal.install()
    moving_average.install()
    hue.install()
    safe_globals.install()
