"""Salient-object detection on mmseg: decode head and loss."""

from .head import SODHead
from .loss import SODLoss

__all__ = ['SODHead', 'SODLoss']
