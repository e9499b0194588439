"""TOPLight: light networks for visible-infrared recognition (CVPR 2023)."""

from .dual_path import DualPathBackbone
from .networks import (
    LightGhostNet,
    LightMobileNetV2,
    LightMobileNetV3,
    LightShuffleNetV2,
)
from .partition import PARTITIONS, Partition, partition_of

__all__ = [
    'PARTITIONS',
    'DualPathBackbone',
    'LightGhostNet',
    'LightMobileNetV2',
    'LightMobileNetV3',
    'LightShuffleNetV2',
    'Partition',
    'partition_of',
]
