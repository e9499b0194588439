"""Let mmcv 2.1 turn hues backwards on NumPy 2.

Why: `mmcv.adjust_hue`, behind `ColorJitter` of mmpretrain, relies on `np.uint8(-20)`
being 236; NumPy 2 raises an OverflowError instead. onedl-mmcv wraps the number itself.

Delete it with the support of mmcv 2.1.
"""

import sys
from types import ModuleType

import numpy as np

from .after_import import patch_after_import

MODULE = 'mmcv.image.photometric'


class WrappedHue(float):
    """Hue factor whose product with 255 is an integer modulo 256."""

    def __mul__(self, other: float) -> int:
        """Multiply and wrap, as the conversion to uint8 did in NumPy 1."""
        return int(float(self) * other) % 256


def install() -> None:
    """Patch the function when mmcv is imported. Repeated calls are harmless."""
    patch_after_import(MODULE, patch)


def patch(module: ModuleType) -> None:
    """Replace the function where it fails."""
    adjust = module.adjust_hue
    try:
        adjust(np.zeros((1, 1, 3), np.uint8), -0.1)
    except OverflowError:
        pass
    else:
        return

    def adjust_hue(
        img: np.ndarray, hue_factor: float, backend: str | None = None
    ) -> np.ndarray:
        return adjust(img, WrappedHue(hue_factor), backend)

    adjust_hue.__doc__ = adjust.__doc__
    # the packages that took the function from the module, if they are there already
    for name in (MODULE, 'mmcv.image', 'mmcv'):
        if name in sys.modules:
            sys.modules[name].adjust_hue = adjust_hue
