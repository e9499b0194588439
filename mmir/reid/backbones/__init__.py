"""Backbones of visible-infrared re-identification."""

from .light_cnn import LightCNN
from .non_local_resnet import NonLocalResNet
from .two_stem import TwoStemBackbone

__all__ = ['LightCNN', 'NonLocalResNet', 'TwoStemBackbone']
