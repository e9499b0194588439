"""YOLOv7 for mmdet."""

from mmir.det.yolov7.assigner import OTAAssigner
from mmir.det.yolov7.backbone import YOLOv7Backbone
from mmir.det.yolov7.detector import YOLOv7
from mmir.det.yolov7.head import YOLOv7Head
from mmir.det.yolov7.head_module import YOLOv7HeadModule
from mmir.det.yolov7.neck import YOLOv7Neck

__all__ = [
    'OTAAssigner',
    'YOLOv7',
    'YOLOv7Backbone',
    'YOLOv7Head',
    'YOLOv7HeadModule',
    'YOLOv7Neck',
]
