"""TMPA: PedMix, modality feature extraction and transfer (arXiv 2312.07021)."""

from .data_preprocessor import PedMixDataPreprocessor
from .pedmix import PedMix

__all__ = ['PedMix', 'PedMixDataPreprocessor']
