"""YOLOv7 for mmdet."""

from mmir.det.yolov7.backbone import YOLOv7Backbone
from mmir.det.yolov7.detector import YOLOv7
from mmir.det.yolov7.neck import YOLOv7Neck

__all__ = ['YOLOv7', 'YOLOv7Backbone', 'YOLOv7Neck']
