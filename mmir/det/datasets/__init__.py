"""Infrared detection datasets on mmdet."""

from .coco_subset import CocoSubsetDataset
from .few_shot import choose_subset
from .flir import FLIRDataset
from .layout_dataset import LayoutDataset
from .layouts import (
    DroneVehicleDataset,
    FLIRAlignedDataset,
    HITUAVDataset,
    KAISTDataset,
    LLVIPDataset,
    M3FDDataset,
)
from .paired_mix import PairedMixDataset

__all__ = [
    'CocoSubsetDataset',
    'DroneVehicleDataset',
    'FLIRAlignedDataset',
    'FLIRDataset',
    'HITUAVDataset',
    'KAISTDataset',
    'LLVIPDataset',
    'LayoutDataset',
    'M3FDDataset',
    'PairedMixDataset',
    'choose_subset',
]
