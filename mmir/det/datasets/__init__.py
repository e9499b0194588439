"""Infrared detection datasets on mmdet."""

from .coco_subset import CocoSubsetDataset
from .few_shot import choose_subset
from .flir import FLIRDataset
from .paired_mix import PairedMixDataset

__all__ = ['CocoSubsetDataset', 'FLIRDataset', 'PairedMixDataset', 'choose_subset']
