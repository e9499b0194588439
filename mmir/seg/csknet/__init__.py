"""CSK-Net: segmentation with several modalities, any of which may be missing."""

from .contrast import PixelContrastHead, PixelContrastLoss, contrast_weight
from .distill import SpectralDistillLoss
from .modality_contrast import ModalityContrast

__all__ = [
    'ModalityContrast',
    'PixelContrastHead',
    'PixelContrastLoss',
    'SpectralDistillLoss',
    'contrast_weight',
]
