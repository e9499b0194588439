"""Classification and person re-identification on mmpretrain.

Importing it never fails: without a working mmpretrain, every name is a placeholder that
says what is missing when used (see `mmir.registry`).
"""

from mmir.registry import fail_part

try:
    from .backbones import LightCNN, NonLocalResNet, TwoStemBackbone, ViTEVA02
    from .cost import Cost, vireid_cost
    from .data_preprocessor import PairedClsDataPreprocessor
    from .datasets import (
        LLCM,
        SYSUMM01,
        ImageFolder,
        NIRVISFace,
        PersonListDataset,
        RegDB,
    )
    from .heads import VIReIDHead
    from .inferencer import VIReIDInferencer
    from .losses import CenterLoss, HardTripletLoss, WRTLoss
    from .mirrored import MirroredVIReID
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
        FakeDomainLoss,
        FDRNeck,
        IdentityConsistencyLoss,
        LightGhostNet,
        LightMobileNetV2,
        LightMobileNetV3,
        LightShuffleNetV2,
        SoupReport,
        TOPClassifier,
        TOPHead,
        UniformSoupHook,
        average_weights,
        recalibrate_soup,
        uniform_soup,
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
    'Cost',
    'CrossModalIdentitySampler',
    'DualPathBackbone',
    'FDRNeck',
    'FakeDomainLoss',
    'HardTripletLoss',
    'IdentityConsistencyLoss',
    'IdentitySampler',
    'ImageFolder',
    'LightCNN',
    'LightGhostNet',
    'LightMobileNetV2',
    'LightMobileNetV3',
    'LightShuffleNetV2',
    'MSILoss',
    'MSSLoss',
    'MirroredVIReID',
    'NIRVISFace',
    'NonLocalResNet',
    'PairedClsDataPreprocessor',
    'PedMix',
    'PedMixDataPreprocessor',
    'PersonListDataset',
    'RegDB',
    'SoupReport',
    'TMPABackbone',
    'TMPAHead',
    'TOPClassifier',
    'TOPHead',
    'TwoStemBackbone',
    'UniformSoupHook',
    'VIReID',
    'VIReIDHead',
    'VIReIDInferencer',
    'ViTEVA02',
    'WRTLoss',
    'average_weights',
    'recalibrate_soup',
    'uniform_soup',
    'vireid_cost',
]
