"""Segmentation on mmseg.

Importing it never fails: without a working mmseg, every name is a placeholder that
says what is missing when used (see `mmir.registry`).
"""

from mmir.registry import fail_part

try:
    from .csknet import (
        CSKHead,
        CSKNet,
        ModalityContrast,
        PixelContrastHead,
        PixelContrastLoss,
        SpectralDistillLoss,
        contrast_weight,
    )
    from .data_preprocessor import PairedSegDataPreprocessor
    from .datasets import (
        FMBDataset,
        LoadSaliencyMask,
        MFNetDataset,
        MSRSDataset,
        MVSegDataset,
        PairedSegDataset,
        PST900Dataset,
        SemanticRTDataset,
        VTSODDataset,
    )
    from .late_fusion import LateFusionSegmentor
    from .sod import SODHead, SODLoss
except Exception as error:
    globals().update(fail_part('seg', error))

__all__ = [
    'CSKHead',
    'CSKNet',
    'FMBDataset',
    'LateFusionSegmentor',
    'LoadSaliencyMask',
    'MFNetDataset',
    'MSRSDataset',
    'MVSegDataset',
    'ModalityContrast',
    'PST900Dataset',
    'PairedSegDataPreprocessor',
    'PairedSegDataset',
    'PixelContrastHead',
    'PixelContrastLoss',
    'SODHead',
    'SODLoss',
    'SemanticRTDataset',
    'SpectralDistillLoss',
    'VTSODDataset',
    'contrast_weight',
]
