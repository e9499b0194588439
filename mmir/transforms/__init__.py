"""Transforms for infrared and paired images, in mmengine's root registry."""

from .loading import ImageReadError, LoadThermalImage, read_image
from .padding import PadToStride
from .paired_loading import LoadPairedImages
from .paired_packing import PackPairedInputs
from .paired_transform import CannotReplayError, OnModality, PairedTransform
from .thermal import ThermalToUint8

__all__ = [
    'CannotReplayError',
    'ImageReadError',
    'LoadPairedImages',
    'LoadThermalImage',
    'OnModality',
    'PackPairedInputs',
    'PadToStride',
    'PairedTransform',
    'ThermalToUint8',
    'read_image',
]
