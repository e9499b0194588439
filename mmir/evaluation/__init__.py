"""Test loops with missing or corrupted modalities; salient-object metric."""

from .corruption_loop import CorruptionTestLoop, default_corruptions
from .corruptions import CORRUPTIONS, Corruption, corrupt
from .missing_loop import MissingModalityTestLoop
from .sod_metric import SODMetric
from .variant_loop import VariantTestLoop

__all__ = [
    'CORRUPTIONS',
    'Corruption',
    'CorruptionTestLoop',
    'MissingModalityTestLoop',
    'SODMetric',
    'VariantTestLoop',
    'corrupt',
    'default_corruptions',
]
