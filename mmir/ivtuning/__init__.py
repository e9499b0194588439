"""IV-tuning: RGB+infrared from one frozen vision transformer."""

from .method import IVTuning
from .modules import (
    HybridAdapter,
    InternalPromptAdapter,
    PromptGenerator,
    PromptMixer,
    SimAM,
    SplitFuseEnhancer,
)

__all__ = [
    'HybridAdapter',
    'IVTuning',
    'InternalPromptAdapter',
    'PromptGenerator',
    'PromptMixer',
    'SimAM',
    'SplitFuseEnhancer',
]
