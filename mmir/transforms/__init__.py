"""Transforms for infrared and paired images, in mmengine's root registry."""

from .alignment import RandomMisalignment
from .channel_augment import ChannelAugment
from .loading import LoadThermalImage
from .missing import DropModality
from .on_modality import OnModality
from .padding import PadToStride
from .paired_loading import LoadPairedImages
from .paired_packing import PackPairedInputs
from .paired_transform import CannotReplayError, PairedTransform
from .radiometry import RadiometricScale
from .registration import RegisterModality
from .saliency_augment import RandomCenterCrop, RandomEnhance
from .thermal import ThermalToUint8
from .thermal_augment import (
    RandomPolarityInversion,
    RandomThermalDrift,
    RandomThermalGamma,
    ThermalAugment,
)
from .thermal_faults import DeadPixels, FixedPatternNoise, RandomThermalBlur
from .top_augment import TOPAugment

__all__ = [
    'CannotReplayError',
    'ChannelAugment',
    'DeadPixels',
    'DropModality',
    'FixedPatternNoise',
    'LoadPairedImages',
    'LoadThermalImage',
    'OnModality',
    'PackPairedInputs',
    'PadToStride',
    'PairedTransform',
    'RadiometricScale',
    'RandomCenterCrop',
    'RandomEnhance',
    'RandomMisalignment',
    'RandomPolarityInversion',
    'RandomThermalBlur',
    'RandomThermalDrift',
    'RandomThermalGamma',
    'RegisterModality',
    'TOPAugment',
    'ThermalAugment',
    'ThermalToUint8',
]
