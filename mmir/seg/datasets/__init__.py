"""Paired segmentation and salient-object datasets on mmseg."""

from .paired_seg import PairedSegDataset
from .rgbt import (
    FMBDataset,
    MFNetDataset,
    MSRSDataset,
    MVSegDataset,
    PST900Dataset,
    SemanticRTDataset,
)
from .saliency import LoadSaliencyMask, VTSODDataset

__all__ = [
    'FMBDataset',
    'LoadSaliencyMask',
    'MFNetDataset',
    'MSRSDataset',
    'MVSegDataset',
    'PST900Dataset',
    'PairedSegDataset',
    'SemanticRTDataset',
    'VTSODDataset',
]
