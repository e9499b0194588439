"""Backbones of visible-infrared re-identification, and EVA-02."""

from .eva02 import ViTEVA02
from .light_cnn import LightCNN
from .non_local_resnet import NonLocalResNet
from .two_stem import TwoStemBackbone

__all__ = ['LightCNN', 'NonLocalResNet', 'TwoStemBackbone', 'ViTEVA02']
