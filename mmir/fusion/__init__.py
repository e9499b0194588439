"""Fusion of RGB and infrared in models of any host: early, halfway, late."""

from .early import EarlyFusion
from .late import LateFusion
from .modules import AddFusion, ConcatFusion, CrossAttentionFusion
from .single_modality import SingleModality
from .stem import widen_stem_
from .two_stream import TwoStreamBackbone

__all__ = [
    'AddFusion',
    'ConcatFusion',
    'CrossAttentionFusion',
    'EarlyFusion',
    'LateFusion',
    'SingleModality',
    'TwoStreamBackbone',
    'widen_stem_',
]
