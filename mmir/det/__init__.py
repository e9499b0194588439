"""Detection on mmdet: YOLOv5, YOLOv7, their assigner and infrared detection datasets.

Importing it never fails: without a working mmdet, every name is a placeholder that
reports what is missing when it is used (see `mmir.registry`).
"""

from mmir.registry import fail_part

try:
    from .data_preprocessor import PairedDetDataPreprocessor
    from .datasets import (
        CocoSubsetDataset,
        DroneVehicleDataset,
        FLIRAlignedDataset,
        FLIRDataset,
        HITUAVDataset,
        KAISTDataset,
        LLVIPDataset,
        M3FDDataset,
        PairedMixDataset,
    )
    from .late_fusion import LateFusionDetector
    from .transforms import CenteredRandomAffine
    from .yolo import OTAAssigner, YOLOHead, YOLOHeadModule
    from .yolov5 import YOLOv5, YOLOv5Backbone, YOLOv5Neck
    from .yolov7 import YOLOv7, YOLOv7Backbone, YOLOv7Neck
except Exception as error:
    globals().update(fail_part('det', error))

__all__ = [
    'CenteredRandomAffine',
    'CocoSubsetDataset',
    'DroneVehicleDataset',
    'FLIRAlignedDataset',
    'FLIRDataset',
    'HITUAVDataset',
    'KAISTDataset',
    'LLVIPDataset',
    'LateFusionDetector',
    'M3FDDataset',
    'OTAAssigner',
    'PairedDetDataPreprocessor',
    'PairedMixDataset',
    'YOLOHead',
    'YOLOHeadModule',
    'YOLOv5',
    'YOLOv5Backbone',
    'YOLOv5Neck',
    'YOLOv7',
    'YOLOv7Backbone',
    'YOLOv7Neck',
]
