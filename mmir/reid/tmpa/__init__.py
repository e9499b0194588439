"""TMPA: PedMix, modality feature extraction and transfer (arXiv 2312.07021)."""

from .backbone import TMPABackbone
from .data_preprocessor import PedMixDataPreprocessor
from .mfe import MFE
from .mft import MFT
from .pedmix import PedMix

__all__ = ['MFE', 'MFT', 'PedMix', 'PedMixDataPreprocessor', 'TMPABackbone']
