"""CSK-Net: segmentation that keeps working when a modality is missing."""

from .head import CSKHead
from .segmentor import CSKNet

__all__ = ['CSKHead', 'CSKNet']
