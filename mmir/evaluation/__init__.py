"""Test loops with missing or corrupted modalities."""

from .corruption_loop import CorruptionTestLoop, default_corruptions
from .corruptions import CORRUPTIONS, Corruption, corrupt
from .missing_loop import MissingModalityTestLoop
from .variant_loop import VariantTestLoop

__all__ = [
    'CORRUPTIONS',
    'Corruption',
    'CorruptionTestLoop',
    'MissingModalityTestLoop',
    'VariantTestLoop',
    'corrupt',
    'default_corruptions',
]
