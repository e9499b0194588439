"""TOPLight: light networks for visible-infrared recognition (CVPR 2023)."""

from .dual_path import DualPathBackbone
from .fdr import FDR, FDRNeck
from .losses import FakeDomainLoss, IdentityConsistencyLoss
from .networks import (
    LightGhostNet,
    LightMobileNetV2,
    LightMobileNetV3,
    LightShuffleNetV2,
)
from .partition import PARTITIONS, Partition, partition_of
from .pretraining import TOPClassifier, TOPHead
from .soup import SoupReport, average_weights, uniform_soup
from .soup_hook import UniformSoupHook, recalibrate_soup

__all__ = [
    'FDR',
    'PARTITIONS',
    'DualPathBackbone',
    'FDRNeck',
    'FakeDomainLoss',
    'IdentityConsistencyLoss',
    'LightGhostNet',
    'LightMobileNetV2',
    'LightMobileNetV3',
    'LightShuffleNetV2',
    'Partition',
    'SoupReport',
    'TOPClassifier',
    'TOPHead',
    'UniformSoupHook',
    'average_weights',
    'partition_of',
    'recalibrate_soup',
    'uniform_soup',
]
