"""CSK-Net: segmentation that keeps working when a modality is missing."""

from .contrast import PixelContrastHead, PixelContrastLoss, contrast_weight
from .distill import SpectralDistillLoss
from .head import CSKHead
from .modality_contrast import ModalityContrast
from .segmentor import CSKNet

__all__ = [
    'CSKHead',
    'CSKNet',
    'ModalityContrast',
    'PixelContrastHead',
    'PixelContrastLoss',
    'SpectralDistillLoss',
    'contrast_weight',
]
