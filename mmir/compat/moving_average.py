"""Keep frozen weights bit for bit in the moving average of mmdet 3.3.

Why: `mmdet.ExpMomentumEMA` computes `a (1 - m) + b m`, which rounds to another number
even if a = b. The average of a frozen weight drifts off it in every iteration, so the
base of an adapter is no longer that of the RGB detector. onedl-mmdetection 3.5 and
mmengine interpolate as `a + m (b - a)`, which keeps it.

Delete it with the support of mmdet 3.3.
"""

from types import ModuleType

import torch
from torch import Tensor

from .after_import import patch_after_import

MODULE = 'mmdet.models.layers.ema'


def install() -> None:
    """Patch the average when mmdet is imported. Repeated calls are harmless."""
    patch_after_import(MODULE, patch)


def patch(module: ModuleType) -> None:
    """Leave weights alone that equal their average, unless the host does so."""
    average = module.ExpMomentumEMA.avg_func
    if 'lerp_' in average.__code__.co_names:
        return

    def avg_func(self: object, averaged: Tensor, source: Tensor, steps: int) -> None:
        same = averaged == source  # asking for a bool would wait for the GPU
        average(self, averaged, source, steps)
        averaged.copy_(torch.where(same, source, averaged))

    module.ExpMomentumEMA.avg_func = avg_func
