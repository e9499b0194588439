"""TMPA: PedMix, modality feature extraction and transfer (arXiv 2312.07021)."""

from .backbone import TMPABackbone
from .data_preprocessor import PedMixDataPreprocessor
from .head import TMPAHead
from .losses import MSILoss, MSSLoss
from .mfe import MFE
from .mft import MFT
from .neck import CompleteNeck
from .pedmix import PedMix

__all__ = [
    'MFE',
    'MFT',
    'CompleteNeck',
    'MSILoss',
    'MSSLoss',
    'PedMix',
    'PedMixDataPreprocessor',
    'TMPABackbone',
    'TMPAHead',
]
