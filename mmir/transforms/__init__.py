"""Transforms for infrared images, registered in mmengine's root registry."""

from .loading import ImageReadError, LoadThermalImage, read_image
from .thermal import ThermalToUint8

__all__ = ['ImageReadError', 'LoadThermalImage', 'ThermalToUint8', 'read_image']
