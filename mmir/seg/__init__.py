"""Segmentation on mmseg.

Importing it never fails: without a working mmseg, every name is a placeholder that
says what is missing when used (see `mmir.registry`).
"""

from mmir.registry import fail_part

try:
    from .csknet import CSKHead, CSKNet
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
    'PST900Dataset',
    'PairedSegDataPreprocessor',
    'PairedSegDataset',
    'SODHead',
    'SODLoss',
    'SemanticRTDataset',
    'VTSODDataset',
]
