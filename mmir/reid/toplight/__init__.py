"""TOPLight: light networks for visible-infrared recognition (CVPR 2023)."""

from .dual_path import DualPathBackbone
from .fdr import FDR, FDRNeck
from .networks import (
    LightGhostNet,
    LightMobileNetV2,
    LightMobileNetV3,
    LightShuffleNetV2,
)
from .partition import PARTITIONS, Partition, partition_of

__all__ = [
    'FDR',
    'PARTITIONS',
    'DualPathBackbone',
    'FDRNeck',
    'LightGhostNet',
    'LightMobileNetV2',
    'LightMobileNetV3',
    'LightShuffleNetV2',
    'Partition',
    'partition_of',
]
