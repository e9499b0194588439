"""Transforms for infrared images, registered in mmengine's root registry."""

from .loading import ImageReadError, LoadThermalImage, read_image
from .padding import PadToStride
from .thermal import ThermalToUint8

__all__ = [
    'ImageReadError',
    'LoadThermalImage',
    'PadToStride',
    'ThermalToUint8',
    'read_image',
]
