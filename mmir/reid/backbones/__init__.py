"""Backbones of visible-infrared re-identification."""

from .non_local_resnet import NonLocalResNet
from .two_stem import TwoStemBackbone

__all__ = ['NonLocalResNet', 'TwoStemBackbone']
