"""Classification and person re-identification on mmpretrain.

Importing it never fails: without a working mmpretrain, every name is a placeholder that
says what is missing when used (see `mmir.registry`).
"""

from mmir.registry import fail_part

try:
    from .backbones import NonLocalResNet, TwoStemBackbone
    from .data_preprocessor import PairedClsDataPreprocessor
    from .datasets import LLCM, SYSUMM01, PersonListDataset, RegDB
    from .heads import VIReIDHead
    from .losses import CenterLoss, HardTripletLoss, WRTLoss
    from .samplers import CrossModalIdentitySampler, IdentitySampler
    from .tmpa import (
        MFE,
        MFT,
        CompleteNeck,
        MSILoss,
        MSSLoss,
        PedMix,
        PedMixDataPreprocessor,
        TMPABackbone,
        TMPAHead,
    )
    from .toplight import (
        FDR,
        DualPathBackbone,
        FDRNeck,
        LightGhostNet,
        LightMobileNetV2,
        LightMobileNetV3,
        LightShuffleNetV2,
    )
    from .vireid import VIReID
except Exception as error:
    globals().update(fail_part('reid', error))

__all__ = [
    'FDR',
    'LLCM',
    'MFE',
    'MFT',
    'SYSUMM01',
    'CenterLoss',
    'CompleteNeck',
    'CrossModalIdentitySampler',
    'DualPathBackbone',
    'FDRNeck',
    'HardTripletLoss',
    'IdentitySampler',
    'LightGhostNet',
    'LightMobileNetV2',
    'LightMobileNetV3',
    'LightShuffleNetV2',
    'MSILoss',
    'MSSLoss',
    'NonLocalResNet',
    'PairedClsDataPreprocessor',
    'PedMix',
    'PedMixDataPreprocessor',
    'PersonListDataset',
    'RegDB',
    'TMPABackbone',
    'TMPAHead',
    'TwoStemBackbone',
    'VIReID',
    'VIReIDHead',
    'WRTLoss',
]
