"""Results dictionaries that explain themselves to transforms that cannot use them.

The hosts' transforms read `results['img']`. A pair has no such key, and an image of
16 bits is beyond the range that photometric transforms assume. Both are noticed where
the image is asked for, so this works in any pipeline, dataset and dataset wrapper.
"""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from .paired import PairError

IMAGE = 'img'

EIGHT_BIT_ONLY = {
    'AdjustGamma', 'AutoContrast', 'Brightness', 'CLAHE', 'CachedMixUp', 'Color',
    'ColorJitter', 'ColorTransform', 'Contrast', 'Corrupt', 'Equalize', 'GaussianBlur',
    'Invert', 'Lighting', 'MixUp', 'NumpyToPIL', 'PhotoMetricDistortion', 'Posterize',
    'Sharpness', 'Solarize', 'SolarizeAdd', 'YOLOXHSVRandomAug',
}  # fmt: skip
"""Transforms of the hosts that assume values 0..255 or return uint8."""


class BitDepthError(ValueError):
    """A transform for 8-bit images was given an image of more bits."""


class _Results(dict):
    """Results dictionary whose kind outlives copies and merges."""

    def copy(self) -> '_Results':
        """Shallow copy of the same kind."""
        return type(self)(self)

    def __or__(self, other: Mapping) -> '_Results':
        """Merge with another mapping, which takes precedence."""
        return type(self)({**self, **other})


class PairedResults(_Results):
    """Paired sample in a pipeline.

    Raises:
        PairError: A single-image transform asks for `img`. Most would raise a KeyError,
            some would change the labels alone or pack a sample without an image.
    """

    def __missing__(self, key: Any) -> None:
        """Explain what to do if a transform looks for an image."""
        self._refuse(key)
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        """Tell whether there is a key; raise if a transform looks for an image."""
        return super().__contains__(key) or self._refuse(key)

    def get(self, key: Any, default: Any = None) -> Any:
        """Get a value or the default; raise if a transform looks for an image."""
        if key not in self:
            return default
        return self[key]

    def _refuse(self, key: Any) -> bool:
        if key != IMAGE:
            return False
        asking = _asking()
        if asking is None:
            return False
        who = type(asking).__name__
        advice = (
            'end the pipeline with mmir.PackPairedInputs, which calls it'
            if who.startswith('Pack')
            else "wrap it: dict(type='mmir.PairedTransform', "
            f"transforms=dict(type='{who}', ...)), or apply it to one modality with "
            'mmir.OnModality'
        )
        raise PairError(f'{who} works on one image and was given a pair: {advice}')


class DeepResults(_Results):
    """Sample with an image of more than 8 bits, or made from one.

    Raises:
        BitDepthError: A transform of :data:`EIGHT_BIT_ONLY` asks for `img` before it
            has been converted to uint8.
    """

    def __getitem__(self, key: Any) -> Any:
        """Get a value."""
        value = super().__getitem__(key)
        if key == IMAGE and isinstance(value, np.ndarray) and value.dtype != np.uint8:
            asking = _asking()
            if EIGHT_BIT_ONLY.intersection(c.__name__ for c in type(asking).__mro__):
                raise BitDepthError(
                    f'{type(asking).__name__} is for 8-bit images and was given '
                    f'{self.get("img_path") or "an array"} of {value.dtype}: place it '
                    'after mmir.ThermalToUint8, or use a transform of mmir such as '
                    'RandomThermalGamma'
                )
        return value

    def get(self, key: Any, default: Any = None) -> Any:
        """Get a value or the default."""
        if key not in self:
            return default
        return self[key]


def _asking() -> Any:
    """Get the transform whose code reads the results; None for other code."""
    frame = sys._getframe(1)
    while frame is not None:
        owner = frame.f_locals.get('self')
        if owner is not None and not isinstance(owner, _Results):
            kind = type(owner)
            # mmpretrain's wrapper of torchvision has no base class
            there = 'transforms' in kind.__module__.split('.')
            return owner if there or isinstance(owner, BaseTransform) else None
        frame = frame.f_back
    return None
