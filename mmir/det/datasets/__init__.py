"""Infrared detection datasets on mmdet."""

from .coco_subset import CocoSubsetDataset
from .few_shot import choose_subset
from .flir import FLIRDataset

__all__ = ['CocoSubsetDataset', 'FLIRDataset', 'choose_subset']
