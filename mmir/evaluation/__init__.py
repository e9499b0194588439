"""Test loops with missing or corrupted modalities; metrics; analysis of features."""

from .block_features import BlockFeatures
from .corruption_loop import CorruptionTestLoop, default_corruptions
from .corruptions import CORRUPTIONS, Corruption, corrupt
from .feature_frequency import RadialPower, energy_map, radial_power, tapered
from .feature_spectrum import (
    FeatureSpectrum,
    components_for,
    effective_rank,
    pca_spectrum,
)
from .missing_loop import MissingModalityTestLoop
from .sod_metric import SODMetric
from .variant_loop import VariantTestLoop

__all__ = [
    'CORRUPTIONS',
    'BlockFeatures',
    'Corruption',
    'CorruptionTestLoop',
    'FeatureSpectrum',
    'MissingModalityTestLoop',
    'RadialPower',
    'SODMetric',
    'VariantTestLoop',
    'components_for',
    'corrupt',
    'default_corruptions',
    'effective_rank',
    'energy_map',
    'pca_spectrum',
    'radial_power',
    'tapered',
]
